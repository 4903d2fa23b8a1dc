"""`orchestrator audit`."""
