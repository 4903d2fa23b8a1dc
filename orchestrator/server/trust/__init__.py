"""The trust map over HTTP."""
