"""Sources of jobs over HTTP."""
