# The one question: may this job be admitted, or may this bound job have a token for this audience?
#
# Input: docs/reference/policy-input.md. Nothing here reads input.claimed: that is the job's word about itself.
package orchestrator

import data.orchestrator.prod
import data.orchestrator.staging
import data.orchestrator.tiers

default decision := {
	"allow": false,
	"reasons": [{"code": "no_rule", "message": "no rule of the policy covers this request; show it to the policy's owners"}],
}

decision := {
	"allow": true,
	"obligations": obligations,
} if {
	granted
}

decision := {
	"allow": false,
	"reasons": [reason | some reason in denials],
} if {
	count(denials) > 0
}

environment := input.request.deployment_environment

granted if {
	input.stage == "admission"
	environment_granted
	count(denials) == 0
}

granted if {
	input.stage == "exchange"
	environment_granted
	runner_bound
	audience_granted
	count(denials) == 0
}

# A job that deploys nowhere may run on any pool: the pool's isolation and egress are its bounds.
environment_granted if environment == ""

environment_granted if staging.allow

environment_granted if prod.allow

runner_bound if {
	is_string(input.runner.uid)
	input.runner.uid != ""
}

audience := data.audiences[input.request.audience]

audience_granted if {
	environment in audience.environments
	tiers.at_least(input.pool.trust_tier, audience.min_trust_tier)
}

denials contains reason if {
	environment == "staging"
	some reason in staging.unmet
}

denials contains reason if {
	environment == "prod"
	some reason in prod.unmet
}

denials contains {
	"code": "environment_unknown",
	"message": "deployment_environment must be staging, prod, or empty for a job that deploys nowhere",
} if {
	not environment in {"", "staging", "prod"}
}

denials contains {
	"code": "stage_unknown",
	"message": "policy was asked at a stage that it has no rules for",
} if {
	not input.stage in {"admission", "exchange"}
}

denials contains {
	"code": "runner_unbound",
	"message": "only the runner that a running job is bound to can exchange its identity",
} if {
	input.stage == "exchange"
	not runner_bound
}

denials contains {
	"code": "audience_unknown",
	"message": "no rule covers this audience; ask the policy's owners to add it to the bundle's data.audiences",
} if {
	input.stage == "exchange"
	not audience
}

denials contains {
	"code": "audience_not_for_environment",
	"message": sprintf("this audience is only for jobs with deployment_environment: %s", [wanted]),
} if {
	input.stage == "exchange"
	not environment in audience.environments
	wanted := concat(", ", audience.environments)
}

denials contains {
	"code": "trust_tier_too_low_for_audience",
	"message": sprintf("this audience needs a pool of trust tier %s or higher; choose another pool", [audience.min_trust_tier]),
} if {
	input.stage == "exchange"
	not tiers.at_least(input.pool.trust_tier, audience.min_trust_tier)
}

obligations := object.union(limits, {"session_tags": session_tags})

# Egress is left to the pool's own list; a rule that narrows it would add the key "egress" here.
limits := {} if {
	input.stage == "admission"
	environment == ""
}

limits := {"max_duration_seconds": staging.max_duration_seconds} if {
	input.stage == "admission"
	environment == "staging"
}

limits := {"max_duration_seconds": prod.max_duration_seconds} if {
	input.stage == "admission"
	environment == "prod"
}

limits := {"token_ttl_seconds": min(token_limits)} if input.stage == "exchange"

token_limits contains audience.ttl_seconds

token_limits contains staging.token_ttl_seconds if environment == "staging"

token_limits contains prod.token_ttl_seconds if environment == "prod"

# Facts for the relying party's own rules. Values are short enough for every cloud's session tags.
session_tags := object.union(fact_tags, {
	"environment": environment,
	"job": input.job.id,
	"pool": input.pool.name,
	"trust_tier": input.pool.trust_tier,
})

fact_tags := {name: value |
	some name in {"repository", "ref"}
	value := input.caller.facts[name]
	is_string(value)
	count(value) <= 256
}
