"""`orchestrator approvals`."""
