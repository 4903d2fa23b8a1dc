"""The runner API: what an agent and its job reach."""
