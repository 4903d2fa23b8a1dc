package orchestrator.controls_test

import data.orchestrator.controls
import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.audiences
import data.orchestrator.fixtures_test.build as a_good_build
import data.orchestrator.fixtures_test.environments
import data.orchestrator.fixtures_test.exceptions
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.scan
import data.orchestrator.fixtures_test.staging as a_good_staging

decide(document, modes) := decision if {
	decision := data.orchestrator.decision with input as document
		with data.environments as object.union(environments, {"prod": {"modes": modes}})
		with data.audiences as audiences
		with data.exceptions as exceptions
		with data.secrets as {"tiers": ["standard"]}
}

bad := object.union(prod, {"artifact": {"scans": []}, "ticket": {"open": false}})

test_a_watched_rule_refuses_nothing_and_is_told if {
	decision := decide(bad, {"scan_missing": "observe", "ticket_unfit": "observe"})
	decision.allow == true
	fixtures.codes(decision.observed) == {"scan_missing", "ticket_unfit"}
	every reason in decision.observed { count(reason.message) > 30 }
}

test_one_watched_rule_is_not_all if {
	decision := decide(bad, {"scan_missing": "observe", "ticket_unfit": "enforce"})
	decision.allow == false
	fixtures.codes(decision.reasons) == {"ticket_unfit"}
	fixtures.codes(decision.observed) == {"scan_missing"}
}

test_rules_are_enforced_unless_the_data_says_otherwise if {
	every modes in [{}, {"scan_missing": "enforce"}, {"scan_missing": "off"}, {"scan_missing": true}] {
		decide(object.union(prod, {"artifact": {"scans": []}}), modes).allow == false
	}
}

test_a_rule_that_is_met_is_not_told if {
	decision := decide(prod, {"scan_missing": "observe"})
	decision.observed == []
}

test_modes_are_of_one_environment if {
	document := object.union(a_good_staging, {"artifact": {"sbom": false}})
	decide(document, {"sbom_missing": "observe"}).allow == false
}

nothing(environment, stage) := {
	"stage": stage, "time": a_good_build.time, "job": null,
	"request": {"deployment_environment": environment, "artifact_digest": "sha256:0", "ticket": "T", "secrets": ["x"]},
	"pool": {}, "approvals": [], "exceptions": [],
}

everything_demanded := object.union(environments.prod, {
	"signers": ["nobody"], "source": {"signed": true, "reviewed": true}, "approvals": {"kinds": {"release": 1}},
})

unmet(document) := fixtures.unmet_with(document, everything_demanded)

# Nothing known: everything that is demanded is unmet, and every rule there is has been seen.
test_catalogue if {
	of_a_job := unmet(nothing("prod", "admission"))
	of_a_workload := unmet(nothing("prod", "deployment"))
	bad_scan := object.union(scan, {"finished_at": "2026-11-20T10:00:00Z", "counts": {"critical": 1}})
	of_a_scan := unmet(object.union(prod, {"artifact": {"scans": [bad_scan]}}))
	(of_a_job | of_a_workload) | of_a_scan == data.orchestrator.controls.catalogue
}

test_each_rule_says_what_is_wrong_and_what_to_do if {
	every code in data.orchestrator.controls.catalogue {
		message := controls.wording(code) with input as prod with data.environments as {"prod": everything_demanded}
		told(message)
		without := controls.wording(code) with input as nothing("prod", "deployment") with data.environments as {"prod": everything_demanded}
		told(without)
		nowhere := controls.wording(code) with input as {} with data.environments as {}
		count(nowhere) > 30
	}
}

told(message) if {
	startswith(message, "input.")
	contains(message, "expected ")
	contains(message, ": ")
	count(message) > 40
	count(message) < 1500
}

test_what_follows_is_not_told_twice if {
	document := object.union(prod, {"artifact": null, "request": {"ticket": ""}, "ticket": null})
	decision := decide(document, {})
	decision.allow == false
	fixtures.codes(decision.reasons) == {
		"artifact_unknown", "artifact_unsigned", "base_not_approved", "sbom_missing", "scan_missing",
		"security_approval_missing", "ticket_missing",
	}
	elsewhere := decide(object.union(prod, {"artifact": {"provenance": false}}), {})
	fixtures.codes(elsewhere.reasons) == {"built_elsewhere"}
}

test_something_is_always_told if {
	every code in data.orchestrator.controls.catalogue { controls.told({code}) == {code} }
	every code in data.orchestrator.controls.catalogue - controls.told(data.orchestrator.controls.catalogue) {
		some cause, consequences in data.orchestrator.controls.follows
		code in consequences
		cause in controls.told(data.orchestrator.controls.catalogue)
	}
}

test_what_is_not_told_refuses_all_the_same if {
	document := object.union(prod, {"request": {"ticket": ""}, "ticket": null})
	decision := decide(document, {"ticket_missing": "observe"})
	decision.allow == false
	fixtures.codes(decision.reasons) == {"ticket_unfit"}
}

test_a_rule_without_words_says_so if {
	contains(controls.wording("no_such_code"), "show its code")
}

test_messages_name_the_failing_input if {
	document := object.union(a_good_staging, {"artifact": {"base": "ubuntu"}})
	message := controls.wording("base_not_approved") with input as document with data.environments as environments
	message == `input.artifact.base is "ubuntu", expected one of distroless, ubi-minimal, host-toolchain: build it on a base that is approved for staging`
}

digits := ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

thousand := concat("", [concat("", [a, b, c]) | some a in digits; some b in digits; some c in digits])

test_messages_are_bounded if {
	document := object.union(a_good_staging, {"artifact": {"base": thousand}})
	message := controls.wording("base_not_approved") with input as document with data.environments as environments
	count(message) < 500
}

# The same facts get the same answer at a pull request, at the gate and in a cluster.
facts := [
	{},
	{"artifact": {"signed": false}},
	{"artifact": {"sboms": []}},
	{"artifact": {"scans": []}},
	{"artifact": {"base": "ubuntu"}},
	{"approvals": []},
	{"source": {"protected": false}},
	{"ticket": {"open": false}},
	{"artifact": {"provenances": []}},
]

test_three_sites_one_answer if {
	every fact in facts {
		document := object.union(prod, fact)
		at_the_gate := fixtures.unmet(document)
		at_the_gate == fixtures.unmet(fixtures.exchange(document, "https://prod.test.example"))
		at_the_gate == fixtures.unmet(fixtures.check(document))
		at_the_gate == fixtures.unmet(fixtures.deployment(document))
	}
}
