# Signed exceptions: break-glass and overrides. The daemon verified signatures, approvers, scope and number of uses. Here
# it is judged once more what counts by itself: time and scope; and which rules may be set aside at all.
package orchestrator.exceptions

import data.orchestrator.clock.before
import data.orchestrator.clock.since
import data.orchestrator.environment.name as environment

# Whatever the data says, nothing replaces knowing what it is, whose it is, and that it is held.
never := {
	"artifact_unknown", "artifact_unsigned", "built_elsewhere", "source_mismatch", "trust_tier_too_low",
	"isolation_not_approved", "static_secrets", "secret_not_allowed", "privileged", "image_not_pinned",
}

waivable(kind) := {code | some code in data.exceptions.waivable[kind]} - never

usable contains exception if {
	some exception in input.exceptions
	exception.own == false
	exception.environment == environment
	exception.artifact_digest in {"", input.request.artifact_digest}
	in_job(exception)
	in_repository(exception)
	agreed(exception)
	since(exception.starts_at)
	before(exception.expires_at)
}

in_job(exception) if exception.job == ""

in_job(exception) if exception.job == input.job.id

in_repository(exception) if exception.repository_id == ""

in_repository(exception) if exception.repository_id == input.artifact.built.repository_id

in_repository(exception) if exception.repository_id == input.caller.facts.repository_id

agreed(exception) if {
	exception.kind == "break_glass"
	count({name | some name in exception.approvers} - {exception.requested_by}) >= 2
}

# One rule, and one other person.
agreed(exception) if {
	exception.kind == "override"
	count(exception.waives) == 1
	count({name | some name in exception.approvers} - {exception.requested_by}) >= 1
}

# For each code the narrower kind, and of several the one with the smallest id: equal questions use the same.
covers(code) := min({[rank[exception.kind], exception.id] |
	some exception in usable
	code in exception.waives
	code in waivable(exception.kind)
})

rank := {"override": 0, "break_glass": 1}

by_id[exception.id] := exception if some exception in usable
