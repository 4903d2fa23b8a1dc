package orchestrator_test

import data.orchestrator

job(stage, owner) := {"stage": stage, "caller": {"facts": {"repository_owner_id": owner}}}

test_ours_are_allowed_at_both_stages if {
	orchestrator.decision.allow == true with input as job("admission", "1")
	orchestrator.decision.allow == true with input as job("exchange", "1")
}

test_nobody_else_is if {
	orchestrator.decision.allow == false with input as job("admission", "2")
	orchestrator.decision.allow == false with input as job("another", "1")
}
