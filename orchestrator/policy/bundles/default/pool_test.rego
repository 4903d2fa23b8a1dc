package orchestrator.pool_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.staging

unmet(change) := fixtures.unmet(object.union(staging, change))

test_trust_tier if {
	every tier in ["untrusted", "root", null, 2] {
		unmet({"pool": {"trust_tier": tier}}) == {"trust_tier_too_low"}
	}
	unmet({"pool": {"trust_tier": "protected"}}) == set()
	fixtures.unmet(object.union(prod, {"pool": {"trust_tier": "standard"}})) == {"trust_tier_too_low"}
}

test_privileged_is_no_isolation if {
	every isolation in ["privileged", "none", "host", "", null] {
		unmet({"pool": {"isolation": isolation}}) == {"isolation_not_approved"}
	}
}

test_a_job_always_has_a_pool if {
	every stage in ["admission", "exchange"] {
		unmet({"stage": stage, "pool": null}) == {"isolation_not_approved", "trust_tier_too_low"}
	}
}

test_a_question_without_a_job_may_name_one if {
	fixtures.unmet(object.union(fixtures.check(staging), {"pool": null})) == set()
	named := object.union(fixtures.check(staging), {"pool": {"trust_tier": "untrusted", "isolation": "none"}})
	fixtures.unmet(named) == {"isolation_not_approved", "trust_tier_too_low"}
}
