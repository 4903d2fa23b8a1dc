package orchestrator.staging_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.staging

unmet(change) := codes if {
	document := object.union(fixtures.staging, change)
	reasons := staging.unmet with input as document with data.environments as fixtures.environments
	codes := fixtures.codes(reasons)
}

refused(change) if {
	document := object.union(fixtures.staging, change)
	not staging.allow with input as document with data.environments as fixtures.environments
	not staging.satisfied with input as document with data.environments as fixtures.environments
}

test_good_job_is_allowed if {
	staging.allow with input as fixtures.staging with data.environments as fixtures.environments
	unmet({}) == set()
}

test_other_environment_is_not_staging if {
	every name in ["prod", "", "Staging", "staging "] {
		document := object.union(fixtures.staging, {"request": {"deployment_environment": name}})
		not staging.allow with input as document with data.environments as fixtures.environments
	}
}

test_unsigned if {
	every value in [false, null, 0, 1, "true", [], {}] {
		unmet({"artifact": {"signed": value}}) == {"artifact_unsigned"}
		refused({"artifact": {"signed": value}})
	}
}

test_no_sbom if {
	every value in [false, null, 0, 1, "true", [], {}] {
		unmet({"artifact": {"sbom": value}}) == {"sbom_missing"}
		refused({"artifact": {"sbom": value}})
	}
}

test_base_not_approved if {
	every value in ["", "ubuntu", "distroless-evil", "Distroless", null, ["distroless"]] {
		unmet({"artifact": {"base": value}}) == {"base_not_approved"}
		refused({"artifact": {"base": value}})
	}
}

test_each_approved_base if {
	every value in ["distroless", "ubi-minimal", "host-toolchain"] {
		unmet({"artifact": {"base": value}}) == set()
	}
}

test_no_evidence if {
	unmet({"artifact": null}) == {"artifact_unknown", "artifact_unsigned", "base_not_approved", "sbom_missing"}
	refused({"artifact": null})
}

test_evidence_of_another_artifact if {
	unmet({"request": {"artifact_digest": "sha256:2222"}}) == {"artifact_unknown"}
	refused({"request": {"artifact_digest": "sha256:2222"}})
}

test_missing_fields if {
	document := object.remove(fixtures.staging, ["artifact", "pool"])
	reasons := staging.unmet with input as document with data.environments as fixtures.environments
	fixtures.codes(reasons) == {
		"artifact_unknown", "artifact_unsigned", "base_not_approved", "isolation_not_approved",
		"sbom_missing", "trust_tier_too_low",
	}
}

test_built_elsewhere if {
	every change in [
		{"provenance": false},
		{"provenance": null},
		{"provenance": 1},
		{"built": {"builder": ""}},
		{"built": {"builder": null}},
	] {
		unmet({"artifact": change}) == {"built_elsewhere"}
		refused({"artifact": change})
	}
}

test_build_trust_tier if {
	every tier in ["untrusted", "root", "", null, 2] {
		unmet({"artifact": {"built": {"trust_tier": tier}}}) == {"build_trust_tier_too_low"}
		refused({"artifact": {"built": {"trust_tier": tier}}})
	}
	unmet({"artifact": {"built": {"trust_tier": "protected"}}}) == set()
}

test_source_of_another_kind if {
	every change in [
		{"artifact": {"built": {"repository": "acme/other"}}},
		{"artifact": {"built": {"repository": "Acme/shop"}}},
		{"artifact": {"built": {"repository": ""}}},
		{"artifact": {"built": {"repository": null}}},
		{"artifact": {"built": {"caller_issuer": "https://other.test.example"}}},
		{"caller": {"issuer": "https://other.test.example"}},
		{"caller": {"facts": {"repository": "acme/other"}}},
	] {
		unmet(change) == {"source_mismatch"}
		refused(change)
	}
}

mismatch(document) if {
	reasons := staging.unmet with input as document with data.environments as fixtures.environments
	fixtures.codes(reasons) == {"source_mismatch"}
	not staging.allow with input as document with data.environments as fixtures.environments
}

test_repository_that_is_no_name if {
	every value in ["", 7, null, ["acme/shop"]] {
		mismatch(fixtures.sourced(fixtures.staging, {"repository": value}, {"repository": value}))
	}
}

test_repository_on_one_side_only if {
	mismatch(fixtures.sourced(fixtures.staging, {"repository": "acme/shop"}, {}))
	mismatch(fixtures.sourced(fixtures.staging, {}, {"repository": "acme/shop"}))
}

test_repository_id_has_to_agree_where_there_is_one if {
	shop := {"repository": "acme/shop"}
	first := object.union(shop, {"repository_id": "1"})
	second := object.union(shop, {"repository_id": "2"})
	staging.allow with input as fixtures.sourced(fixtures.staging, first, first) with data.environments as fixtures.environments
	mismatch(fixtures.sourced(fixtures.staging, first, second))
	mismatch(fixtures.sourced(fixtures.staging, first, shop))
	mismatch(fixtures.sourced(fixtures.staging, shop, first))
}

test_caller_without_repository_deploys_its_own_builds_only if {
	staging.allow with input as fixtures.local with data.environments as fixtures.environments
	mismatch(object.union(fixtures.local, {"caller": {"id": "fedcba9876543210"}}))
	every id in ["", 7, null] {
		mismatch(object.union(fixtures.local, {"caller": {"id": id}, "artifact": {"built": {"caller": id}}}))
	}
}

test_trust_tier if {
	every tier in ["untrusted", "root", null, 2] {
		unmet({"pool": {"trust_tier": tier}}) == {"trust_tier_too_low"}
		refused({"pool": {"trust_tier": tier}})
	}
	unmet({"pool": {"trust_tier": "protected"}}) == set()
}

test_privileged_is_no_isolation if {
	every isolation in ["privileged", "none", "host", "", null] {
		unmet({"pool": {"isolation": isolation}}) == {"isolation_not_approved"}
		refused({"pool": {"isolation": isolation}})
	}
}

test_without_settings_nothing_is_allowed if {
	not staging.allow with input as fixtures.staging with data.environments as {}
}

test_limits if {
	staging.max_duration_seconds == 1800 with data.environments as fixtures.environments
	staging.token_ttl_seconds == 600 with data.environments as fixtures.environments
}
