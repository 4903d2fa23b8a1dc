package orchestrator.exceptions_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.audiences
import data.orchestrator.fixtures_test.digest
import data.orchestrator.fixtures_test.environments
import data.orchestrator.fixtures_test.exception
import data.orchestrator.fixtures_test.exceptions
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.scan

decide(document, change) := decision if {
	decision := data.orchestrator.decision with input as document
		with data.environments as object.union(environments, {"prod": change})
		with data.audiences as audiences
		with data.exceptions as exceptions
		with data.secrets as {"tiers": ["standard"]}
}

unscanned := object.union(prod, {"artifact": {"scans": []}})

stale := object.union(prod, {"artifact": {"scans": [object.union(scan, {"finished_at": "2026-11-20T10:00:00Z"})]}})

with_one(document, change) := decide(object.union(document, {"exceptions": [object.union(exception, change)]}), {})

override := {"kind": "override", "waives": ["scan_stale"], "approvers": ["sam"]}

other_id := "sha256:2222222222222222222222222222222222222222222222222222222222222222"

refused(decision, wanted) if {
	decision.allow == false
	fixtures.codes(decision.reasons) == wanted
	not decision.waived
}

test_break_glass_sets_aside_what_it_names if {
	decision := with_one(unscanned, {})
	decision.allow == true
	decision.waived == [{"exception": exception.id, "codes": ["scan_missing"]}]
	decision.obligations.session_tags.exception == exception.id
}

test_nothing_is_used_that_is_not_needed if {
	decision := with_one(prod, {})
	decision.allow == true
	decision.waived == []
	not decision.obligations.session_tags.exception
}

test_what_it_does_not_name_stays if {
	document := object.union(unscanned, {"ticket": {"open": false}})
	refused(with_one(document, {}), {"ticket_unfit"})
	decision := with_one(document, {"waives": ["ticket_unfit", "scan_missing", "scan_stale"]})
	decision.allow == true
	decision.waived == [{"exception": exception.id, "codes": ["scan_missing", "ticket_unfit"]}]
}

test_what_nothing_replaces if {
	document := object.union(unscanned, {"artifact": {"signed": false}})
	refused(with_one(document, {"waives": ["scan_missing", "artifact_unsigned"]}), {"artifact_unsigned"})
}

test_what_the_data_does_not_list if {
	document := object.union(prod, {"artifact": {"sboms": []}})
	refused(with_one(document, {"waives": ["sbom_unfit"]}), {"sbom_unfit"})
}

test_requests_that_no_exception_can_make_good if {
	refused(with_one(object.union(unscanned, {"stage": "enquiry"}), {"waives": ["scan_missing", "stage_unknown"]}), {"stage_unknown"})
}

test_unfit_exceptions if {
	every change in [
		{"own": true},
		{"own": null},
		{"environment": "staging"},
		{"artifact_digest": "sha256:2222"},
		{"job": "dispatch.b.1"},
		{"repository_id": "43"},
		{"starts_at": "2026-11-22T10:00:01Z"},
		{"expires_at": "2026-11-22T10:00:00Z"},
		{"expires_at": "2026-11-22T09:59:59Z"},
		{"kind": "blessing"},
		{"approvers": ["sam"]},
		{"approvers": ["sam", "sam"]},
		{"approvers": ["sam", "kim"]},
		{"approvers": []},
		{"waives": ["scan_stale"]},
	] {
		refused(with_one(unscanned, change), {"scan_missing"})
	}
}

test_fit_scopes if {
	every change in [
		{"artifact_digest": digest},
		{"job": "dispatch.a.1"},
		{"repository_id": "42"},
		{"starts_at": "2026-11-22T10:00:00Z"},
	] {
		with_one(unscanned, change).allow == true
	}
	by_caller := object.union(object.remove(unscanned, ["artifact"]), {"artifact": object.union(unscanned.artifact, {"built": {"repository_id": "41"}})})
	refused(with_one(by_caller, {"repository_id": "42"}), {"source_mismatch", "commit_not_on_protected_branch"})
}

test_repository_of_the_caller if {
	refused(with_one(object.union(unscanned, {"caller": {"facts": {"repository_id": "7"}}}), {"repository_id": "7"}), {"source_mismatch"})
}

test_override if {
	decision := with_one(stale, override)
	decision.allow == true
	decision.waived == [{"exception": exception.id, "codes": ["scan_stale"]}]
	every change in [
		{"waives": ["scan_stale", "ticket_unfit"]},
		{"waives": ["scan_stale", "ticket_unfit"], "approvers": ["sam", "alex"]},
		{"approvers": []},
		{"approvers": ["kim"]},
	] {
		refused(with_one(stale, object.union(override, change)), {"scan_stale"})
	}
	refused(with_one(unscanned, object.union(override, {"waives": ["scan_missing"]})), {"scan_missing"})
}

test_the_narrower_exception_is_used if {
	broad := object.union(exception, {"waives": ["scan_stale"]})
	narrow := object.union(object.union(exception, override), {"id": other_id})
	twin := object.union(narrow, {"id": "sha256:3333333333333333333333333333333333333333333333333333333333333333"})
	decision := decide(object.union(stale, {"exceptions": [twin, broad, narrow]}), {})
	decision.waived == [{"exception": other_id, "codes": ["scan_stale"]}]
}

test_several_exceptions_together if {
	second := object.union(exception, {"id": other_id, "waives": ["ticket_unfit"]})
	document := object.union(unscanned, {"ticket": {"open": false}, "exceptions": [exception, second]})
	decision := decide(document, {})
	decision.allow == true
	decision.waived == [
		{"exception": exception.id, "codes": ["scan_missing"]},
		{"exception": other_id, "codes": ["ticket_unfit"]},
	]
	decision.obligations.session_tags.exception == exception.id
}

# The token lives no longer than what it stands on.
test_tokens_by_an_exception_are_short if {
	document := fixtures.exchange(unscanned, "https://prod.test.example")
	with_one(document, {}).obligations.token_ttl_seconds == 90
	with_one(document, {"expires_at": "2026-11-22T10:00:33Z"}).obligations.token_ttl_seconds == 33
	with_one(document, {"expires_at": "2026-11-22T10:00:00.5Z"}).obligations.token_ttl_seconds == 1
	with_one(fixtures.exchange(prod, "https://prod.test.example"), {}).obligations.token_ttl_seconds == 120
}

test_a_watched_rule_needs_no_exception if {
	document := object.union(unscanned, {"exceptions": [exception]})
	decision := decide(document, {"modes": {"scan_missing": "observe"}})
	decision.allow == true
	decision.waived == []
	fixtures.codes(decision.observed) == {"scan_missing"}
}
