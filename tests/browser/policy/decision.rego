# What the jobs of the browser tests may do.
package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "no rule covers this"}]}

environment := input.request.deployment_environment

decision := {
	"allow": true,
	"reasons": [{"code": "known_caller", "message": "The caller is known, and asks for nothing that needs approval."}],
} if {
	input.stage in {"admission", "exchange"}
	input.job.source in {"dispatch", "acme"}
	count(denials) == 0
}

decision := {"allow": false, "reasons": [reason | some reason in denials]} if count(denials) > 0

denials contains {"code": "not_approved", "message": "Nobody has approved this release for production."} if {
	environment == "production"
}

denials contains {"code": "staging_only", "message": "Only jobs that deploy to staging get tokens of the deploy target."} if {
	input.stage == "exchange"
	input.request.audience == "https://deploy.example"
	environment != "staging"
}
