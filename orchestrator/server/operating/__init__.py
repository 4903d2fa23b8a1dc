"""Reload and drain over HTTP."""
