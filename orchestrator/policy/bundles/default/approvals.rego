# What people have agreed to. Whether an approval is genuine, in force and about this was verified before policy is asked.
package orchestrator.approvals

import data.orchestrator.clock.before
import data.orchestrator.environment.name as environment
import data.orchestrator.environment.settings
import data.orchestrator.environment.strict

codes := {"security_approval_missing", "approval_missing"}

# Production is never without a security approval.
concerned if strict

concerned if not settings.approvals.required == false

wanted := object.get(settings, ["approvals", "kinds"], {})

# Fit for this artifact and this environment, until it expires, and not if it comes from who profits by it.
fit contains approval if {
	some approval in input.approvals
	approval.environment == environment
	approval.own == false
	is_string(approval.approver)
	approval.approver != ""
	not from_caller(approval)
	about(approval)
	before(approval.expires_at)
}

from_caller(approval) if approval.approver == input.caller.subject

from_caller(approval) if input.caller.subject in approval.approver_subjects

# Nor does who wrote the commit, by name or by number.
from_caller(approval) if input.source.author in approval.approver_subjects

from_caller(approval) if input.source.author_id in approval.approver_subjects

about(approval) if approval.artifact_digest == input.artifact.digest

# Given for the commit that the artifact was built from.
about(approval) if {
	approval.artifact_digest == ""
	approval.repository_id == input.artifact.built.repository_id
	approval.repository_id != ""
	approval.commit == input.artifact.built.sha
	approval.commit != ""
}

# One person counts once, whatever they signed.
given(kind) := count({approval.approver | some approval in fit; approval.kind == kind})

unmet contains "security_approval_missing" if {
	concerned
	not given("security") >= max([1, object.get(wanted, "security", 1)])
}

unmet contains "approval_missing" if {
	concerned
	not count(lacking) == 0
}

lacking contains kind if {
	some kind, number in wanted
	kind != "security"
	not enough(kind, number)
}

enough(kind, number) if {
	is_number(number)
	given(kind) >= number
}
