package orchestrator_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.audiences
import data.orchestrator.fixtures_test.build
import data.orchestrator.fixtures_test.environments
import data.orchestrator.fixtures_test.exceptions
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.staging

decide(document) := decision if {
	decision := data.orchestrator.decision with input as document
		with data.environments as environments
		with data.audiences as audiences
		with data.exceptions as exceptions
		with data.secrets as {"tiers": ["standard"]}
}

codes(document) := fixtures.codes(decide(document).reasons)

denied(document, wanted) if {
	decide(document).allow == false
	codes(document) == wanted
}

test_nothing_is_denied if denied({}, {"environment_unknown", "stage_unknown"})

test_a_stage_alone_is_denied if {
	every stage in ["admission", "exchange", "check", "deployment"] {
		decide({"stage": stage, "request": {"deployment_environment": "prod"}}).allow == false
		decide({"stage": stage, "request": {"deployment_environment": ""}}).allow == false
	}
}

test_build_is_admitted if {
	decision := decide(build)
	decision.allow == true
	decision.obligations == {"session_tags": {
		"environment": "",
		"job": "dispatch.a.1",
		"pool": "default",
		"repository": "acme/shop",
		"trust_tier": "standard",
	}}
}

test_build_is_admitted_on_any_tier if {
	every tier in ["untrusted", "standard", "protected"] {
		decide(object.union(build, {"pool": {"trust_tier": tier}})).allow == true
	}
}

test_unknown_stage if denied(object.union(build, {"stage": "enquiry"}), {"stage_unknown"})

test_unknown_stage_of_a_bound_job if {
	document := fixtures.exchange(staging, "https://staging.test.example")
	denied(object.union(document, {"stage": "enquiry"}), {"stage_unknown"})
}

test_audience_does_not_matter_at_admission if {
	every audience in ["https://prod.test.example", "https://evil.example"] {
		document := object.union(build, {"request": {"audience": audience}, "pool": {"trust_tier": "untrusted"}})
		decide(document).allow == true
	}
}

test_unknown_environment if {
	every name in ["production", "Staging", "dev", null, 0, ["prod"]] {
		denied(object.union(build, {"request": {"deployment_environment": name}}), {"environment_unknown"})
	}
}

test_staging_is_admitted_within_limits if {
	decision := decide(staging)
	decision.allow == true
	decision.obligations.max_duration_seconds == 1800
}

test_prod_is_admitted_within_limits if {
	decision := decide(prod)
	decision.allow == true
	decision.obligations.max_duration_seconds == 900
}

test_staging_is_denied_with_reasons if {
	denied(object.union(staging, {"artifact": {"signed": false}}), {"artifact_unsigned"})
}

test_prod_is_denied_with_reasons if {
	denied(object.union(prod, {"approvals": []}), {"security_approval_missing"})
}

test_staging_exchange if {
	decision := decide(fixtures.exchange(staging, "https://staging.test.example"))
	decision.allow == true
	decision.obligations.token_ttl_seconds == 600
	not decision.obligations.max_duration_seconds
}

test_prod_exchange if {
	decision := decide(fixtures.exchange(prod, "https://prod.test.example"))
	decision.allow == true
	decision.obligations.token_ttl_seconds == 120
}

test_build_exchanges_only_where_the_audience_says_so if {
	decision := decide(fixtures.exchange(build, "https://cache.test.example"))
	decision.allow == true
	decision.obligations.token_ttl_seconds == 60
	denied(fixtures.exchange(build, "https://staging.test.example"), {"audience_not_for_environment"})
}

test_exchange_demands_the_environments_requirements_again if {
	document := object.union(staging, {"artifact": {"signed": false}})
	denied(fixtures.exchange(document, "https://staging.test.example"), {"artifact_unsigned"})
}

test_staging_job_gets_no_prod_token if {
	document := object.union(staging, {"pool": {"trust_tier": "protected"}})
	denied(fixtures.exchange(document, "https://prod.test.example"), {"audience_not_for_environment"})
}

test_no_job_no_token if {
	decide(object.union(fixtures.exchange(staging, "https://staging.test.example"), {"job": null})).allow == false
}

test_unknown_audience if {
	every audience in ["https://evil.example", "", null, "https://staging.test.example/"] {
		denied(fixtures.exchange(staging, audience), {"audience_unknown"})
	}
}

test_audience_needs_a_tier if {
	document := fixtures.exchange(object.union(build, {"pool": {"trust_tier": "untrusted"}}), "https://cache.test.example")
	denied(document, {"trust_tier_too_low_for_audience"})
}

test_no_runner_no_token if {
	every runner in [null, {}, {"uid": ""}, {"uid": 7}] {
		document := object.union(
			object.remove(fixtures.exchange(staging, "https://staging.test.example"), ["runner"]),
			{"runner": runner},
		)
		denied(document, {"runner_unbound"})
	}
}

test_odd_and_long_facts_are_no_tags if {
	odd := object.union(build, {"caller": {"facts": {"ref": ["main"]}}})
	object.keys(decide(odd).obligations.session_tags) == {"environment", "job", "pool", "repository", "trust_tier"}
	long := concat("", ["0123456789012345678901234567890123456789" | some _ in ["a", "b", "c", "d", "e", "f", "g"]])
	document := object.union(build, {"caller": {"facts": {"ref": long, "other": "x"}}})
	tags := decide(document).obligations.session_tags
	object.keys(tags) == {"environment", "job", "pool", "repository", "trust_tier"}
}

test_a_pull_request_is_told if {
	decision := decide(fixtures.check(prod))
	decision.allow == true
	decision.obligations == {"session_tags": {}}
	denied(fixtures.check(object.union(prod, {"approvals": []})), {"security_approval_missing"})
}

test_a_cluster_is_told if {
	decision := decide(fixtures.deployment(prod))
	decision.allow == true
	decision.obligations == {"session_tags": {}}
	denied(object.union(fixtures.deployment(prod), {"workload": {"privileged": true}}), {"privileged"})
}

test_questions_without_a_job_are_about_an_environment if {
	denied(fixtures.check(build), {"environment_unknown"})
	every stage in ["check", "deployment"] {
		decide(object.union(build, {"stage": stage})).allow == false
	}
}

test_environments_are_data if {
	settings := object.union(environments, {"qa": environments.staging})
	document := object.union(staging, {"request": {"deployment_environment": "qa"}})
	decision := data.orchestrator.decision with input as document with data.environments as settings
	decision.allow == true
	denied(document, {"environment_unknown"})
	unsigned := data.orchestrator.decision with input as object.union(document, {"artifact": {"signed": false}}) with data.environments as settings
	fixtures.codes(unsigned.reasons) == {"artifact_unsigned"}
}

test_incomplete_document_falls_to_the_default if denied(object.remove(build, ["job"]), {"no_rule"})

test_without_settings_no_environment_is_known if {
	decision := data.orchestrator.decision with input as staging with data.environments as {}
	decision.allow == false
	fixtures.codes(decision.reasons) == {"environment_unknown"}
}

test_claims_change_nothing if {
	claimed := {"signed": true, "sbom": true, "deployment_environment": "", "trust_tier": "protected", "allow": true}
	bad := object.union(staging, {"artifact": null})
	decide(bad) == decide(object.union(bad, {"claimed": claimed}))
	decide(staging) == decide(object.union(staging, {"claimed": claimed}))
}
