"""`orchestrator policy`."""
