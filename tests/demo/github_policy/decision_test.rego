package orchestrator_test

import data.orchestrator

job(stage, environment, facts) := {
	"stage": stage,
	"caller": {"facts": object.union(
		{"repository_owner": "acme", "fork": "false", "ref": "refs/heads/main", "ref_protected": "true"},
		facts,
	)},
	"request": {"deployment_environment": environment},
}

codes(asked) := {reason.code |
	answer := orchestrator.decision with input as asked
	some reason in answer.reasons
}

test_main_deploys_and_gets_a_token if {
	orchestrator.decision.allow == true with input as job("admission", "staging", {})
	orchestrator.decision.allow == true with input as job("exchange", "staging", {})
}

test_a_branch_runs_and_does_not_deploy if {
	orchestrator.decision.allow == true with input as job("admission", "", {"ref": "refs/heads/topic"})
	codes(job("admission", "staging", {"ref": "refs/heads/topic"})) == {"only_main_deploys"}
	codes(job("admission", "staging", {"ref_protected": "false"})) == {"only_main_deploys"}
}

test_no_token_without_an_environment if {
	codes(job("exchange", "", {})) == {"only_staging_gets_tokens"}
}

test_strangers_do_not_run if {
	codes(job("admission", "", {"fork": "true"})) == {"not_ours"}
	codes(job("admission", "", {"repository_owner": "other"})) == {"not_ours"}
}
