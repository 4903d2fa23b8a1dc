"""How far the way to jobs without static secrets has come: four metrics, counted from facts by day, and a checklist.

Definitions: `docs/reference/metrics.md`.
"""
