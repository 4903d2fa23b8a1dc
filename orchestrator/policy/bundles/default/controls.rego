# All requirements of an environment together, and what becomes of those that are not met: refused, watched, set aside.
package orchestrator.controls

import data.orchestrator.environment.name as environment
import data.orchestrator.environment.settings
import data.orchestrator.messages.message

# Every rule there is.
catalogue := union({
	data.orchestrator.approvals.codes,
	data.orchestrator.artifact.codes,
	data.orchestrator.pool.codes,
	data.orchestrator.provenance.codes,
	data.orchestrator.scans.codes,
	data.orchestrator.secrets.codes,
	data.orchestrator.source.codes,
	data.orchestrator.ticket.codes,
	data.orchestrator.workload.codes,
})

# A job that deploys nowhere may run on any pool, whose isolation and egress are its bounds; but not with any secret.
unmet := data.orchestrator.secrets.unmet if environment == ""

unmet := union({
	data.orchestrator.approvals.unmet,
	data.orchestrator.artifact.unmet,
	data.orchestrator.pool.unmet,
	data.orchestrator.provenance.unmet,
	data.orchestrator.scans.unmet,
	data.orchestrator.secrets.unmet,
	data.orchestrator.source.unmet,
	data.orchestrator.ticket.unmet,
	data.orchestrator.workload.unmet,
}) if is_object(settings)

# Rules that the environment only watches for now: they are told, and refuse nothing.
watched := {code | some code, mode in settings.modes; mode == "observe"}

due := (unmet - data.orchestrator.released.spared) - data.orchestrator.later.waiting

observed := due & watched

enforced := due - watched

waived[code] := id if {
	some code in enforced
	[_, id] := data.orchestrator.exceptions.covers(code)
}

blocking := enforced - object.keys(waived)

# The exceptions without which the answer would be no, each with the codes that it sets aside.
used := [{"exception": id, "codes": [code | some code, by in waived; by == id]} | some id in relied_on]

relied_on := {id | some _, id in waived}

# What need not be told, since it follows from something that is. This is about words alone: it refuses all the same.
told(codes) := codes - {code | some cause in codes; some code in follows[cause]}

follows := {
	"artifact_unknown": {"built_elsewhere", "sbom_unfit", "signer_missing"} | of_a_build,
	"artifact_unsigned": {"signer_missing"},
	"built_elsewhere": of_a_build,
	"sbom_missing": {"sbom_unfit"},
	"secret_not_allowed": {"secret_overdue"},
	"ticket_missing": {"ticket_unfit"},
}

of_a_build := {
	"build_reached_out", "build_trust_tier_too_low", "build_used_caches", "commit_not_on_protected_branch",
	"commit_unreviewed", "commit_unsigned", "provenance_level_too_low", "provenance_stale", "source_mismatch",
	"source_unverified",
}

reasons(codes) := [{"code": code, "message": wording(code)} | some code in codes]

wording(code) := message(code)

wording(code) := "this requirement of the policy is not met; show its code to the policy's owners" if not message(code)
