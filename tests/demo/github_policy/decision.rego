# Which jobs of GitHub run here, and which of them may have a token.
package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "no rule covers this"}]}

decision := {"allow": true} if {
	input.stage in {"admission", "exchange"}
	count(denials) == 0
}

decision := {"allow": false, "reasons": [reason | some reason in denials]} if count(denials) > 0

facts := input.caller.facts

environment := input.request.deployment_environment

# A fact that is not known for certain is absent, so each rule wants one and none refuses one.
ours if {
	facts.repository_owner == "acme"
	facts.fork == "false"
}

from_main if {
	facts.ref == "refs/heads/main"
	facts.ref_protected == "true"
}

denials contains {"code": "not_ours", "message": "only repositories of acme run here, and no forks"} if not ours

denials contains {"code": "only_main_deploys", "message": "environments are for the protected branch main"} if {
	environment != ""
	not from_main
}

denials contains {"code": "only_staging_gets_tokens", "message": "give the job the environment staging, and id-token: write"} if {
	input.stage == "exchange"
	environment != "staging"
}
