"""GitHub's side of the daemon: its sources, what it says of commits, and the tokens it gives."""
