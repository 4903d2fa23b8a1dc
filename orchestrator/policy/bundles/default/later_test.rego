package orchestrator.later_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.audiences
import data.orchestrator.fixtures_test.digest
import data.orchestrator.fixtures_test.environments
import data.orchestrator.fixtures_test.exceptions
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.staging
import data.orchestrator.fixtures_test.untrue
import data.orchestrator.fixtures_test.workload

decide(document) := decision if {
	decision := data.orchestrator.decision with input as document
		with data.environments as environments
		with data.audiences as audiences
		with data.exceptions as exceptions
		with data.secrets as {"tiers": ["standard"]}
}

codes(document) := fixtures.codes(decide(document).reasons)

# The same job before it has said what it deploys.
unnamed(document) := object.union(object.remove(document, ["artifact", "approvals", "source", "ticket"]), {
	"job": {"artifact_named_later": true},
	"request": {"artifact_digest": "", "ticket": ""},
	"artifact": null, "approvals": [], "source": null, "ticket": null,
})

audience_of := {"staging": "https://staging.test.example", "prod": "https://prod.test.example"}

ours := [staging, prod]

test_admitted_without_a_digest if {
	every document in ours {
		decision := decide(unnamed(document))
		decision.allow == true
		decision.observed == []
		decision.waived == []
		decision.obligations.max_duration_seconds == environments[document.request.deployment_environment].max_duration_seconds
	}
}

test_no_token_without_a_digest if {
	every document in ours {
		asked := fixtures.exchange(unnamed(document), audience_of[document.request.deployment_environment])
		decide(asked).allow == false
		"artifact_unknown" in codes(asked)
	}
}

test_a_token_for_a_good_digest if {
	every document in ours {
		named := object.union(document, {"job": {"artifact_named_later": false}})
		decide(fixtures.exchange(named, audience_of[document.request.deployment_environment])).allow == true
	}
}

test_no_token_for_a_bad_digest if {
	every document in ours {
		named := object.union(document, {"job": {"artifact_named_later": false}, "artifact": {"signed": false}})
		codes(fixtures.exchange(named, audience_of[document.request.deployment_environment])) == {"artifact_unsigned"}
	}
	other := object.union(prod, {"job": {"artifact_named_later": false}, "request": {"artifact_digest": "sha256:2222"}})
	"artifact_unknown" in codes(fixtures.exchange(other, "https://prod.test.example"))
}

test_what_is_known_is_demanded_at_once if {
	codes(object.union(unnamed(prod), {"pool": {"trust_tier": "standard"}})) == {"trust_tier_too_low"}
	codes(object.union(unnamed(staging), {"pool": {"isolation": "none"}})) == {"isolation_not_approved"}
	codes(object.union(unnamed(prod), {"credentials": {"static_secrets": 1}})) == {"static_secrets"}
	codes(object.union(unnamed(prod), {"request": {"deployment_environment": "production"}})) == {"environment_unknown"}
}

test_a_digest_that_is_named_is_judged_at_once if {
	named := object.union(unnamed(staging), {"request": {"artifact_digest": digest}})
	"artifact_unknown" in codes(named)
}

test_nobody_elses_job_waits if {
	every value in array.concat(untrue, ["yes"]) {
		every document in ours {
			dispatched := object.union(unnamed(document), {"job": {"artifact_named_later": value}})
			decide(dispatched).allow == false
			"artifact_unknown" in codes(dispatched)
		}
	}
	every document in ours {
		dispatched := object.union(object.remove(unnamed(document), ["job"]), {"job": document.job})
		"artifact_unknown" in codes(dispatched)
	}
}

test_no_other_question_waits if {
	every stage in ["check", "deployment"] {
		decide(object.union(unnamed(prod), {"stage": stage, "workload": workload})).allow == false
	}
}

test_claims_do_not_wait if {
	document := object.union(object.remove(unnamed(staging), ["job"]), {
		"job": staging.job, "claimed": {"artifact_named_later": true},
	})
	"artifact_unknown" in codes(document)
}
