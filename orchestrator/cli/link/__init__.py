"""How commands reach the daemon."""
