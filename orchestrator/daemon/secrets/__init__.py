"""Registered secrets in the daemon, and the account of every credential."""
