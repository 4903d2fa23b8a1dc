# The one question: may this job be admitted; may this bound job have a token for this audience; would it be allowed; may
# a cluster start this workload?
#
# Input: docs/reference/policy-input.md. Nothing here reads input.claimed: that is the job's word about itself.
package orchestrator

import data.orchestrator.clock.moment
import data.orchestrator.clock.now
import data.orchestrator.controls.reasons
import data.orchestrator.controls.told
import data.orchestrator.environment.name as environment
import data.orchestrator.environment.settings
import data.orchestrator.tiers.at_least

default decision := {
	"allow": false,
	"reasons": [{"code": "no_rule", "message": "no rule of the policy covers this request; show it to the policy's owners"}],
}

decision := {
	"allow": true,
	"obligations": obligations,
	"observed": reasons(data.orchestrator.controls.observed),
	"waived": data.orchestrator.controls.used,
} if {
	granted
}

decision := {
	"allow": false,
	"reasons": array.concat([reason | some reason in denials], reasons(told(refused))),
	"observed": reasons(watched),
} if {
	count(denials) + count(refused) > 0
}

# As sets that are always there: what is undefined in an environment that nobody knows is no reason by itself.
refused contains code if some code in data.orchestrator.controls.blocking

watched contains code if some code in data.orchestrator.controls.observed

granted if {
	stage_granted
	count(data.orchestrator.controls.blocking) == 0
	count(denials) == 0
}

stage_granted if {
	input.stage == "admission"
	is_string(input.job.id)
}

stage_granted if {
	input.stage == "exchange"
	is_string(input.job.id)
	runner_bound
	audience_granted
}

# Questions without a job, which grant nothing here: it is always an environment that they are about.
stage_granted if {
	input.stage in {"check", "deployment"}
	environment != ""
}

runner_bound if {
	is_string(input.runner.uid)
	input.runner.uid != ""
}

audience := data.audiences[input.request.audience]

audience_granted if {
	environment in audience.environments
	at_least(input.pool.trust_tier, audience.min_trust_tier)
}

denials contains {
	"code": "environment_unknown",
	"message": sprintf("input.request.deployment_environment is %s, expected %s: name one of these, or none for a job that deploys nowhere", [
		json.marshal(object.get(input, ["request", "deployment_environment"], null)),
		concat(" or ", sort(object.keys(data.environments))),
	]),
} if {
	not environment_known
}

environment_known if is_object(settings)

environment_known if {
	environment == ""
	not input.stage in {"check", "deployment"}
}

denials contains {
	"code": "stage_unknown",
	"message": "input.stage is one that the policy has no rules for, expected admission, exchange, check or deployment: have the policy's owners bring the bundle up to date",
} if {
	not input.stage in {"admission", "exchange", "check", "deployment"}
}

denials contains {
	"code": "runner_unbound",
	"message": "input.runner names no bound runner, expected the one that the running job is bound to: only from inside it can a job exchange its identity",
} if {
	input.stage == "exchange"
	not runner_bound
}

denials contains {
	"code": "audience_unknown",
	"message": sprintf("input.request.audience is %s, expected one that a rule covers: ask the policy's owners to add it to the bundle's data.audiences", [json.marshal(object.get(input, ["request", "audience"], null))]),
} if {
	input.stage == "exchange"
	not audience
}

denials contains {
	"code": "audience_not_for_environment",
	"message": sprintf("input.request.deployment_environment is %s, expected %s for this audience: give the job one of these, or ask for the audience of its own environment", [json.marshal(environment), wanted]),
} if {
	input.stage == "exchange"
	names := audience.environments
	not environment in names
	wanted := concat(" or ", [json.marshal(name) | some name in names])
}

denials contains {
	"code": "trust_tier_too_low_for_audience",
	"message": sprintf("input.pool.trust_tier is %s, expected %s or higher for this audience: choose another pool", [json.marshal(object.get(input, ["pool", "trust_tier"], null)), audience.min_trust_tier]),
} if {
	input.stage == "exchange"
	not at_least(input.pool.trust_tier, audience.min_trust_tier)
}

# Egress is left to the pool's own list; a rule that narrows it would add the key "egress" here.
obligations := object.union(limits, {"session_tags": session_tags})

limits := {} if {
	input.stage == "admission"
	environment == ""
}

limits := {"max_duration_seconds": settings.max_duration_seconds} if input.stage == "admission"

limits := {"token_ttl_seconds": min(token_limits)} if input.stage == "exchange"

limits := {} if input.stage in {"check", "deployment"}

token_limits contains audience.ttl_seconds

token_limits contains settings.token_ttl_seconds

# What an exception let through lives no longer than the exception.
token_limits contains seconds if {
	some use in data.orchestrator.controls.used
	left := moment(data.orchestrator.exceptions.by_id[use.exception].expires_at) - now
	seconds := max([1, floor(left / 1000000000)])
}

token_limits contains data.exceptions.token_ttl_seconds if count(data.orchestrator.controls.used) > 0

default session_tags := {}

# Facts for the relying party's own rules. Values are short enough for every cloud's session tags.
session_tags := object.union_n([fact_tags, exception_tag, {
	"environment": environment,
	"job": input.job.id,
	"pool": input.pool.name,
	"trust_tier": input.pool.trust_tier,
}])

fact_tags := {name: value |
	some name in {"repository", "ref"}
	value := input.caller.facts[name]
	is_string(value)
	count(value) <= 256
}

exception_tag := {"exception": id | id := min([use.exception | some use in data.orchestrator.controls.used])}
