"""Runners as bubblewrap sandboxes on this machine."""
