"""What happened: the append-only record of facts."""
