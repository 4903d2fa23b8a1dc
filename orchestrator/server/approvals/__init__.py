"""Approvals and exceptions over HTTP."""
