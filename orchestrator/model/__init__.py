"""The nouns. Frozen values that cross the borders between rooms; standard library only, no I/O."""
