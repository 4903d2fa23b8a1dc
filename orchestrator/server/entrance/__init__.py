"""The edge of every listener."""
