"""What operators do with a running daemon: reload, drain, look at it."""
