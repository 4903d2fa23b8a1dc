package orchestrator.provenance_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.builder
import data.orchestrator.fixtures_test.local as a_good_local
import data.orchestrator.fixtures_test.other
import data.orchestrator.fixtures_test.outside
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.provenance
import data.orchestrator.fixtures_test.staging as a_good_staging

unmet(change) := fixtures.unmet(object.union(prod, change))

staging(change) := fixtures.unmet(object.union(a_good_staging, change))

test_built_elsewhere if {
	every change in [{"provenance": false}, {"provenance": 1}, {"built": {"builder": ""}}, {"built": {"builder": null}}] {
		found := staging({"artifact": change})
		found == {"build_trust_tier_too_low", "built_elsewhere", "source_mismatch"}
	}
}

test_what_is_no_provenance_says_nothing if {
	unmet({"artifact": {"provenance": false}}) == of_how | {
		"build_trust_tier_too_low", "built_elsewhere", "commit_not_on_protected_branch", "source_mismatch", "source_unverified",
	}
	local := object.union(a_good_local, {"artifact": {"provenance": false}})
	fixtures.unmet(local) == {"build_trust_tier_too_low", "built_elsewhere", "source_mismatch"}
}

test_build_trust_tier if {
	every tier in ["untrusted", "root", "", null, 2] {
		staging({"artifact": {"built": {"trust_tier": tier}}}) == {"build_trust_tier_too_low"}
	}
	staging({"artifact": {"built": {"trust_tier": "protected"}}}) == set()
	unmet({"artifact": {"built": {"trust_tier": "standard"}}}) == {"build_trust_tier_too_low"}
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
		staging(change) == {"source_mismatch"}
	}
}

mismatch(document) if fixtures.unmet(document) == {"source_mismatch"}

test_repository_that_is_no_name if {
	every value in ["", 7, null, ["acme/shop"]] {
		mismatch(fixtures.sourced(a_good_staging, {"repository": value}, {"repository": value}))
	}
}

test_repository_on_one_side_only if {
	mismatch(fixtures.sourced(a_good_staging, {"repository": "acme/shop"}, {}))
	mismatch(fixtures.sourced(a_good_staging, {}, {"repository": "acme/shop"}))
}

test_repository_id_has_to_agree_where_there_is_one if {
	shop := {"repository": "acme/shop"}
	first := object.union(shop, {"repository_id": "1"})
	second := object.union(shop, {"repository_id": "2"})
	fixtures.unmet(fixtures.sourced(a_good_staging, first, first)) == set()
	mismatch(fixtures.sourced(a_good_staging, first, second))
	mismatch(fixtures.sourced(a_good_staging, first, shop))
	mismatch(fixtures.sourced(a_good_staging, shop, first))
}

test_caller_without_repository_deploys_its_own_builds_only if {
	mismatch(object.union(a_good_local, {"caller": {"id": "fedcba9876543210"}}))
	every id in ["", 7, null] {
		mismatch(object.union(a_good_local, {"caller": {"id": id}, "artifact": {"built": {"caller": id}}}))
	}
}

test_strict_environments_want_a_repository if {
	document := fixtures.sourced(prod, {}, {"repository_id": "42"})
	fixtures.unmet(object.union(document, {"caller": {"facts": {}}})) == {"source_unverified"}
	every name in ["", null, 7] {
		"source_unverified" in unmet({"artifact": {"built": {"repository": name}}})
	}
	fixtures.unmet_with(object.union(document, {"caller": {"facts": {}}}), {"strict": false}) == set()
}

test_another_builder if {
	every change in [
		{"artifact": {"provenances": [object.union(other, {"builder": "https://evil.test.example/builder"})]}},
		{"artifact": {"provenances": [object.union(other, {"signer": "control-plane"})]}},
		{"artifact": {"provenances": [object.union(other, {"finished_at": ""})]}},
		{"artifact": {"provenances": []}},
		{"artifact": {"provenance": false}},
	] {
		"built_elsewhere" in fixtures.unmet(object.union(outside, change))
	}
}

test_another_builder_speaks_for_its_repositories_only if {
	every change in [
		{"artifact": {"provenances": [object.union(other, {"repository": "https://code.test.example/acme/other"})]}},
		{"artifact": {"provenances": [object.union(other, {"repository": "https://evil.test.example/acme/shop"})]}},
		{"caller": {"issuer": "https://other.test.example"}},
		{"caller": {"facts": {"repository": ""}}, "artifact": {"provenances": [object.union(other, {"repository": "https://code.test.example/"})]}},
	] {
		"source_mismatch" in fixtures.unmet(object.union(outside, change))
	}
}

outside_with(change) := fixtures.unmet_with(outside, {"provenance": {"builders": [object.union(builder, change)]}})

test_another_builders_tier_and_base_are_what_the_data_says if {
	outside_with({}) == set()
	outside_with({"trust_tier": "standard"}) == {"build_trust_tier_too_low"}
	every base in ["ubuntu", "", null] {
		outside_with({"base": base}) == {"base_not_approved"}
	}
}

# A better word about something else does not make up for the one that is judged.
test_one_statement_is_judged if {
	newer := object.union(other, {"finished_at": "2026-11-22T09:10:00Z", "caches": ["pip"], "attestation": "sha256:a"})
	higher := object.union(other, {"level": 3, "finished_at": "2026-11-22T06:00:00Z"})
	twin := object.union(other, {"attestation": "sha256:z", "egress_refused": 7})
	fixtures.unmet(object.union(outside, {"artifact": {"provenances": [newer, other]}})) == {"build_used_caches"}
	fixtures.unmet(object.union(outside, {"artifact": {"provenances": [other, higher]}})) == {"provenance_stale"}
	fixtures.unmet(object.union(outside, {"artifact": {"provenances": [twin, other]}})) == {"build_reached_out"}
}

of_how := {"build_reached_out", "build_used_caches", "provenance_level_too_low", "provenance_stale"}

test_ours_is_judged_where_there_is_one if {
	better := object.union(other, {"level": 3})
	unmet({"artifact": {"provenances": [better]}}) == of_how
	poor := object.union(provenance, {"level": 1})
	unmet({"artifact": {"provenances": [better, poor]}}) == {"provenance_level_too_low"}
	every odd in [{"signer": "other"}, {"builder": "https://ci.test.example/builders/sandbox/bubblewrap/standard/v1"}] {
		unmet({"artifact": {"provenances": [object.union(provenance, odd)]}}) == of_how
	}
}

ours(change) := unmet({"artifact": {"provenances": [object.union(provenance, change)]}})

test_level if {
	every level in [0, 1, null, "3"] {
		ours({"level": level}) == {"provenance_level_too_low"}
	}
	ours({"level": 3}) == set()
}

test_age_of_the_build if {
	every time in ["2026-11-22T07:59:59Z", "2026-11-22T10:05:01Z", ""] {
		ours({"finished_at": time}) == {"provenance_stale"}
	}
	ours({"finished_at": "2026-11-22T08:00:00Z"}) == set()
	ours({"finished_at": "2026-11-22T10:05:00Z"}) == set()
	fixtures.unmet_with(prod, {"provenance": {"max_age_seconds": null}}) == {"provenance_stale"}
}

test_caches if {
	every caches in [["pip"], null, {}, ""] {
		ours({"caches": caches}) == {"build_used_caches"}
	}
	document := object.union(prod, {"artifact": {"provenances": [object.union(provenance, {"caches": ["pip"]})]}})
	fixtures.unmet_with(document, {"provenance": {"caches_allowed": true}}) == set()
	fixtures.unmet_with(document, {"provenance": {"caches_allowed": 1}}) == {"build_used_caches"}
}

test_refused_egress if {
	every number in [1, null, "", false] {
		ours({"egress_refused": number}) == {"build_reached_out"}
	}
	document := object.union(prod, {"artifact": {"provenances": [object.union(provenance, {"egress_refused": 3})]}})
	fixtures.unmet_with(document, {"provenance": {"egress_refused_allowed": true}}) == set()
	fixtures.unmet_with(document, {"provenance": {"egress_refused_allowed": 1}}) == {"build_reached_out"}
}

test_what_staging_does_not_ask_for if {
	staging({"artifact": {"provenances": [{"signer": "control-plane", "level": 0}]}}) == set()
}

test_what_the_data_leaves_out_is_demanded if {
	document := object.union(prod, {"artifact": {"provenances": []}})
	every required in [true, null, 0, "false"] {
		fixtures.unmet_with(document, {"provenance": {"required": required}}) == of_how
	}
	fixtures.unmet_with(document, {"provenance": {"required": false}}) == set()
}
