"""What GitHub says of commits."""
