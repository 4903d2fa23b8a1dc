package orchestrator_test

import data.orchestrator

asked(stage, environment, audience) := {
	"stage": stage,
	"job": {"source": "dispatch"},
	"request": {"deployment_environment": environment, "audience": audience},
}

test_builds_run if orchestrator.decision.allow with input as asked("admission", "", "")

test_production_needs_approval if {
	not orchestrator.decision.allow with input as asked("admission", "production", "")
}

test_builds_do_not_deploy if {
	not orchestrator.decision.allow with input as asked("exchange", "", "https://deploy.example")
}
