package orchestrator.released_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.released

environments := object.union(fixtures.environments, {"prod": {"released": {"max_age_seconds": 7776000}}})

# Allowed once, and everything that was true of that day has passed since.
later := object.union(fixtures.deployment(fixtures.prod), {
	"time": "2026-12-20T10:00:00Z",
	"approvals": [],
	"ticket": null,
	"artifact": object.union(fixtures.deployment(fixtures.prod).artifact, {"summaries": [summary]}),
})

summary := {
	"attestation": fixtures.digest,
	"environment": "prod",
	"verified_at": "2026-11-22T10:00:00Z",
	"policy": fixtures.digest,
	"decision": "0192",
	"job": "dispatch.1.1",
}

unmet(document) := codes if {
	decision := data.orchestrator.decision with input as document with data.environments as environments
	codes := {reason.code | some reason in object.get(decision, "reasons", [])}
}

summed_up(changes) := object.union(later, {"artifact": {"summaries": [object.union(summary, changes)]}})

test_what_passed_once_may_start_again if {
	decision := data.orchestrator.decision with input as later with data.environments as environments
	decision.allow == true
}

test_what_never_passed_may_not if {
	of_that_day := {"scan_stale", "provenance_stale", "security_approval_missing", "ticket_missing"}
	unmet(object.union(later, {"artifact": {"summaries": []}})) == of_that_day
}

test_a_summary_is_for_one_environment_and_for_a_time if {
	count(unmet(summed_up({"environment": "staging"}))) == 4
	count(unmet(summed_up({"verified_at": "2026-09-01T10:00:00Z"}))) == 4
	count(unmet(summed_up({"verified_at": "2027-01-01T10:00:00Z"}))) == 4
	count(unmet(summed_up({"verified_at": ""}))) == 4
}

test_where_the_data_gives_no_time_it_counts_for_nothing if {
	decision := data.orchestrator.decision with input as later with data.environments as fixtures.environments
	decision.allow == false
}

test_what_does_not_pass_with_time_is_asked_again if {
	unmet(object.union(later, {"artifact": {"signed": false, "signatures": []}})) == {"artifact_unsigned"}
	unmet(object.union(later, {"artifact": {"sbom": false, "sboms": []}})) == {"sbom_missing"}
	unmet(object.union(later, {"workload": {"privileged": true}})) == {"privileged"}
	unmet(object.union(later, {"source": {"protected": false}})) == {"commit_not_on_protected_branch"}
	unmet(object.union(later, {"artifact": {"scans": []}})) == {"scan_missing"}
}

test_only_a_cluster_starts_something_again if {
	every stage in ["admission", "exchange", "check"] {
		released.spared == set() with input as object.union(later, {"stage": stage}) with data.environments as environments
	}
}
