package orchestrator.approvals_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.approval as a_good_approval
import data.orchestrator.fixtures_test.prod

unmet(approvals) := fixtures.unmet(object.union(prod, {"approvals": approvals}))

approval(change) := object.union(a_good_approval, change)

test_no_approval if unmet([]) == {"security_approval_missing"}

test_unfit_approvals if {
	every change in [
		{"kind": "change-board"},
		{"environment": "staging"},
		{"artifact_digest": "sha256:2222"},
		{"approver": "repo:acme/shop"},
		{"approver": null},
		{"approver": ""},
		{"approver_subjects": ["sam", "repo:acme/shop"]},
		{"own": true},
		{"own": null},
		{"expires_at": "2026-11-22T10:00:00Z"},
		{"expires_at": "2026-11-22T09:59:59Z"},
		{"expires_at": ""},
		{"artifact_digest": "", "commit": "c0ffee", "repository_id": ""},
		{"artifact_digest": "", "commit": "c0ffee", "repository_id": "43"},
		{"artifact_digest": null, "commit": "c0ffee", "repository_id": "42"},
		{"artifact_digest": "", "commit": "decade", "repository_id": "42"},
		{"artifact_digest": "", "commit": "", "repository_id": "42"},
	] {
		unmet([approval(change)]) == {"security_approval_missing"}
	}
}

test_the_author_does_not_approve if {
	every name in ["author", "author_id"] {
		approvals := [approval({"approver_subjects": ["sam", "1001"]})]
		fixtures.unmet(object.union(prod, {"approvals": approvals, "source": {name: "1002"}})) == set()
		document := object.union(prod, {"approvals": approvals, "source": {name: "1001"}})
		fixtures.unmet(document) == {"security_approval_missing"}
	}
}

test_approval_of_a_commit if unmet([approval({"artifact_digest": "", "commit": "c0ffee", "repository_id": "42"})]) == set()

test_approval_of_nothing_is_none if {
	every built in [{"repository_id": ""}, {"sha": ""}] {
		same := object.union({"artifact_digest": "", "commit": "c0ffee", "repository_id": "42"}, object.filter({
			"repository_id": "", "commit": "",
		}, [name | some key, name in {"repository_id": "repository_id", "sha": "commit"}; built[key] == ""]))
		document := object.union(prod, {"artifact": {"built": built}, "approvals": [approval(same)]})
		"security_approval_missing" in fixtures.unmet(document)
	}
}

test_one_fit_approval_is_enough if unmet([approval({"kind": "change-board"}), a_good_approval]) == set()

test_one_person_counts_once if {
	two := {"approvals": {"kinds": {"security": 2}}}
	again := object.union(prod, {"approvals": [a_good_approval, approval({"id": "sha256:b"})]})
	fixtures.unmet_with(again, two) == {"security_approval_missing"}
	others := object.union(prod, {"approvals": [a_good_approval, approval({"approver": "alex"})]})
	fixtures.unmet_with(others, two) == set()
}

test_other_kinds if {
	release := {"approvals": {"kinds": {"release": 1}}}
	fixtures.unmet_with(prod, release) == {"approval_missing"}
	both := object.union(prod, {"approvals": [a_good_approval, approval({"kind": "release", "approver": "alex"})]})
	fixtures.unmet_with(both, release) == set()
	every number in ["1", null, false] {
		fixtures.unmet_with(both, {"approvals": {"kinds": {"release": number}}}) == {"approval_missing"}
	}
}

test_strict_environments_are_never_without if {
	none := object.union(prod, {"approvals": []})
	fixtures.unmet_with(none, {"approvals": {"required": false}}) == {"security_approval_missing"}
	fixtures.unmet_with(none, {"approvals": {"kinds": {"security": 0}}}) == {"security_approval_missing"}
	fixtures.unmet_with(none, {"strict": false}) == {"security_approval_missing"}
	fixtures.unmet_with(none, {"strict": false, "approvals": {"required": 0}}) == {"security_approval_missing"}
	fixtures.unmet_with(none, {"strict": false, "approvals": {"required": false, "kinds": {"release": 1}}}) == set()
}

test_claimed_approval_is_worthless if {
	document := object.union(prod, {"approvals": [], "claimed": {"approvals": [a_good_approval]}})
	fixtures.unmet(document) == {"security_approval_missing"}
}
