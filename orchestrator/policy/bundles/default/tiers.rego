# Trust tiers in order. A tier that is not listed here is at least nothing.
package orchestrator.tiers

rank := {"untrusted": 0, "standard": 1, "protected": 2}

at_least(tier, minimum) if rank[tier] >= rank[minimum]
