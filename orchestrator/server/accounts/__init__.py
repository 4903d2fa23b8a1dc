"""Secrets, credentials and scores over HTTP."""
