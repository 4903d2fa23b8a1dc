package orchestrator.secrets_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.build
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.staging
import data.orchestrator.fixtures_test.untrue

secret := {"name": "old", "owner": "team-shop", "overdue": false, "allowed": true}

wanting(document, names, secrets) := object.union(document, {
	"request": {"secrets": names},
	"credentials": {"static_secrets": count(names), "secrets": secrets},
})

with_one(document, change) := fixtures.unmet(wanting(document, ["old"], [object.union(secret, change)]))

test_a_registered_secret_for_who_may_have_it if {
	every document in [build, staging] {
		with_one(document, {}) == set()
	}
}

test_strict_environments_have_none if {
	with_one(prod, {}) == {"static_secrets"}
	miscounted := object.union(wanting(prod, ["old"], [secret]), {"credentials": {"static_secrets": 0}})
	fixtures.unmet(miscounted) == {"static_secrets"}
}

test_strict_environments_have_none_in_any_pool if {
	with_one(object.union(prod, {"pool": {"trust_tier": "standard"}}), {}) == {"static_secrets", "trust_tier_too_low"}
}

test_pools_that_are_kept_free if {
	every tier in ["protected", "untrusted", null] {
		"static_secrets" in with_one(object.union(build, {"pool": {"trust_tier": tier}}), {})
	}
}

test_who_may_not_have_it if {
	every value in untrue {
		with_one(build, {"allowed": value}) == {"secret_not_allowed"}
	}
	with_one(build, {"name": "other"}) == {"secret_not_allowed", "secret_overdue"}
	fixtures.unmet(wanting(build, ["old", "new"], [secret])) == {"secret_not_allowed", "secret_overdue"}
	fixtures.unmet(wanting(build, ["old"], [])) == {"secret_not_allowed", "secret_overdue"}
}

test_overdue if {
	every value in [true, null, 0, "false"] {
		with_one(build, {"overdue": value}) == {"secret_overdue"}
	}
	with_one(fixtures.exchange(build, "https://cache.test.example"), {"overdue": true}) == set()
	with_one(fixtures.exchange(build, "https://cache.test.example"), {"allowed": false}) == {"secret_not_allowed"}
}

test_credentials_of_another_kind if {
	every change in [{"static_secrets": 1}, {"static_secrets": null}, {"workload_identity": false}, {"workload_identity": 1}] {
		"static_secrets" in fixtures.unmet(object.union(prod, {"credentials": change}))
	}
	every document in [build, staging] {
		fixtures.unmet(object.union(document, {"credentials": {"workload_identity": false}})) == {"static_secrets"}
		one := wanting(document, ["old"], [secret])
		fixtures.unmet(object.union(one, {"credentials": {"workload_identity": false}})) == {"static_secrets"}
	}
	fixtures.unmet(object.union(build, {"request": {"secrets": null}})) == {"secret_not_allowed", "secret_overdue"}
}

test_nothing_of_this_concerns_a_cluster if {
	with_one(fixtures.deployment(prod), {"allowed": false, "overdue": true}) == set()
}
