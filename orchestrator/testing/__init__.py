"""In-memory implementations of every port, and fault-injecting fakes; shipped, so that users can test too."""
