package orchestrator.prod_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.prod
import data.orchestrator.staging

unmet(change) := codes if {
	document := object.union(fixtures.prod, change)
	reasons := prod.unmet with input as document with data.environments as fixtures.environments
	codes := fixtures.codes(reasons)
}

refused(change) if {
	document := object.union(fixtures.prod, change)
	not prod.allow with input as document with data.environments as fixtures.environments
	not prod.satisfied with input as document with data.environments as fixtures.environments
}

test_good_job_is_allowed if {
	prod.allow with input as fixtures.prod with data.environments as fixtures.environments
	unmet({}) == set()
}

test_other_environment_is_not_prod if {
	every name in ["staging", "", "production", "PROD"] {
		document := object.union(fixtures.prod, {"request": {"deployment_environment": name}})
		not prod.allow with input as document with data.environments as fixtures.environments
	}
}

test_everything_of_staging_is_demanded if {
	every change in [
		{"artifact": {"signed": false}},
		{"artifact": {"sbom": false}},
		{"artifact": {"base": "ubuntu"}},
		{"artifact": {"provenance": false}},
		{"artifact": {"built": {"builder": ""}}},
		{"artifact": {"built": {"repository": "acme/other"}}},
		{"artifact": {"built": {"trust_tier": "untrusted"}}},
		{"pool": {"isolation": "privileged"}},
		{"pool": {"trust_tier": "untrusted"}},
		{"request": {"artifact_digest": "sha256:2222"}},
	] {
		document := object.union(fixtures.prod, change)
		reasons := staging.unmet with input as document with data.environments as fixtures.environments
		count(reasons) > 0
		fixtures.codes(reasons) & unmet(change) == fixtures.codes(reasons)
		refused(change)
	}
}

test_base_good_enough_for_staging_only if {
	unmet({"artifact": {"base": "host-toolchain"}}) == {"base_not_approved_for_prod"}
	refused({"artifact": {"base": "host-toolchain"}})
}

test_build_tier_good_enough_for_staging_only if {
	unmet({"artifact": {"built": {"trust_tier": "standard"}}}) == {"build_trust_tier_too_low_for_prod"}
	refused({"artifact": {"built": {"trust_tier": "standard"}}})
}

test_source_good_enough_for_staging_only if {
	document := fixtures.sourced(fixtures.prod, {}, {})
	reasons := prod.unmet with input as document with data.environments as fixtures.environments
	fixtures.codes(reasons) == {"source_unverified_for_prod"}
	not prod.allow with input as document with data.environments as fixtures.environments
	not prod.satisfied with input as document with data.environments as fixtures.environments
}

test_source_that_is_no_name if {
	every value in ["", 7, null] {
		not prod.source_verified with input as {"artifact": {"built": {"repository": value}}}
	}
}

test_no_evidence if {
	document := object.union(fixtures.prod, {"artifact": null})
	reasons := prod.unmet with input as document with data.environments as fixtures.environments
	fixtures.codes(reasons) == {
		"artifact_unknown", "artifact_unsigned", "base_not_approved", "base_not_approved_for_prod",
		"sbom_missing", "security_approval_missing",
	}
}

test_tier_good_enough_for_staging_only if {
	unmet({"pool": {"trust_tier": "standard"}}) == {"trust_tier_too_low_for_prod"}
	refused({"pool": {"trust_tier": "standard"}})
}

test_no_approval if {
	unmet({"approvals": []}) == {"security_approval_missing"}
	refused({"approvals": []})
}

test_unfit_approvals if {
	every change in [
		{"kind": "change-board"},
		{"environment": "staging"},
		{"artifact_digest": "sha256:2222"},
		{"approver": "repo:acme/shop"},
		{"approver": null},
		{"expires_at": "2026-11-22T10:00:00Z"},
		{"expires_at": "2026-11-22T09:59:59Z"},
	] {
		unfit := object.union(fixtures.approval, change)
		unmet({"approvals": [unfit]}) == {"security_approval_missing"}
		refused({"approvals": [unfit]})
	}
}

test_one_fit_approval_is_enough if {
	unfit := object.union(fixtures.approval, {"kind": "change-board"})
	unmet({"approvals": [unfit, fixtures.approval]}) == set()
}

test_claimed_approval_is_worthless if {
	refused({"approvals": [], "claimed": {"approvals": [fixtures.approval], "security_approved": true}})
}

test_static_secrets if {
	every change in [{"static_secrets": 1}, {"static_secrets": null}, {"workload_identity": false}, {"workload_identity": 1}] {
		unmet({"credentials": change}) == {"static_secrets"}
		refused({"credentials": change})
	}
}

test_never_longer_than_staging if {
	prod.max_duration_seconds == 1800 with data.environments as fixtures.environments
	prod.token_ttl_seconds == 300 with data.environments as fixtures.environments
}
