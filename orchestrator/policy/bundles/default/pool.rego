# Where the job runs. Nothing here applies where there is neither job nor pool.
package orchestrator.pool

import data.orchestrator.environment.settings
import data.orchestrator.tiers.at_least

codes := {"trust_tier_too_low", "isolation_not_approved"}

concerned if input.stage in {"admission", "exchange"}

concerned if is_object(input.pool)

unmet contains "trust_tier_too_low" if {
	concerned
	not at_least(input.pool.trust_tier, settings.min_trust_tier)
}

unmet contains "isolation_not_approved" if {
	concerned
	not isolated
}

# Nothing privileged: only boundaries that are listed count as isolation.
isolated if input.pool.isolation in settings.approved_isolation
