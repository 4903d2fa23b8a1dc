"""Settings that are allowed and weaken a promise, each named with what it gives away."""
