"""The starting point that `orchestrator init` writes: which files there are, what is in them, and how they age."""
