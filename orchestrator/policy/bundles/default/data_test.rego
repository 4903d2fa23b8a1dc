# Held against the data that is really in the bundle: a mistake in it keeps the bundle from being loaded.
package orchestrator.data_test

import data.orchestrator.tiers

test_environments_are_complete if {
	every name in ["staging", "prod"] {
		settings := data.environments[name]
		is_array(settings.approved_bases)
		tiers.rank[settings.min_trust_tier]
		tiers.rank[settings.min_build_trust_tier]
		settings.max_duration_seconds >= 1
		settings.token_ttl_seconds >= 10
	}
	is_array(data.environments.staging.approved_isolation)
}

test_prod_is_no_looser_than_staging if {
	every base in data.environments.prod.approved_bases {
		base in data.environments.staging.approved_bases
	}
	tiers.at_least(data.environments.prod.min_trust_tier, data.environments.staging.min_trust_tier)
	tiers.at_least(data.environments.prod.min_build_trust_tier, data.environments.staging.min_build_trust_tier)
	data.environments.prod.token_ttl_seconds <= data.environments.staging.token_ttl_seconds
	data.environments.prod.max_duration_seconds <= data.environments.staging.max_duration_seconds
}

test_audiences_are_complete if {
	every audience in data.audiences {
		is_array(audience.environments)
		tiers.rank[audience.min_trust_tier]
		audience.ttl_seconds >= 10
		audience.ttl_seconds <= 86400
		every environment in audience.environments {
			environment in {"", "staging", "prod"}
		}
	}
}

test_no_audience_is_for_prod_and_less if {
	every audience in data.audiences {
		not mixed(audience)
	}
}

mixed(audience) if {
	"prod" in audience.environments
	count(audience.environments) > 1
}
