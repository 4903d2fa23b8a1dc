"""The `kubernetes` backend: each runner is one bare pod of its pool's namespace."""
