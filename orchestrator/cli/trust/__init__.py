"""`orchestrator trust`."""
