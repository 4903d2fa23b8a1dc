# Who built it, from what, and how. Ours is the provenance that this orchestrator signed for a job of its own; that of
# another builder counts where the data names the builder's id, and says for whose repositories it speaks.
package orchestrator.provenance

import data.orchestrator.clock.moment
import data.orchestrator.clock.younger
import data.orchestrator.environment.settings
import data.orchestrator.environment.strict
import data.orchestrator.tiers.at_least

codes := {
	"built_elsewhere", "source_mismatch", "build_trust_tier_too_low", "source_unverified", "provenance_level_too_low",
	"provenance_stale", "build_used_caches", "build_reached_out",
}

# Signed by our evidence key for a builder of ours.
ours if {
	input.artifact.provenance == true
	is_string(input.artifact.built.builder)
	input.artifact.built.builder != ""
}

# The builders of others that the data names, each with the provenance that it gave.
outside contains {"statement": statement, "builder": builder} if {
	not ours
	input.artifact.provenance == true
	some statement in input.artifact.provenances
	statement.signer != "control-plane"
	some builder in settings.provenance.builders
	statement.builder == builder.id
}

# One of them is judged, never the best of several: that of the highest level, and of those the newest.
chosen := candidate if {
	best := max({place(candidate.statement) | some candidate in outside})
	some candidate in outside
	place(candidate.statement) == best
}

place(statement) := [statement.level, moment(statement.finished_at), statement.attestation]

origin := {
	"tier": object.get(input.artifact.built, "trust_tier", ""),
	"repository": object.get(input.artifact.built, "repository", ""),
	"commit": object.get(input.artifact.built, "sha", ""),
} if {
	ours
} else := {
	"tier": chosen.builder.trust_tier,
	"repository": trim_prefix(chosen.statement.repository, chosen.builder.repository_prefix),
	"commit": chosen.statement.commit,
}

judged := statement if {
	ours
	some statement in input.artifact.provenances
	statement.signer == "control-plane"
	statement.builder == input.artifact.built.builder
} else := chosen.statement

unmet contains "built_elsewhere" if not is_object(origin)

# A cluster that starts a workload has no repository to compare with: what is deployed there is the job's doing.
unmet contains "source_mismatch" if {
	input.stage != "deployment"
	not same_source
}

# Built from the source that the deploying job comes from, else one team's job could deploy another team's work,
# or what a stranger built and named alike. A repository is what one issuer calls so.
same_source if {
	ours
	input.artifact.built.caller_issuer == input.caller.issuer
	repository_named
	input.artifact.built.repository == input.caller.facts.repository
	same_repository_id
}

# A caller whose issuer names no repository, as the local one, is a source of its own.
same_source if {
	ours
	not input.caller.facts.repository
	not input.artifact.built.repository
	is_string(input.caller.id)
	input.caller.id != ""
	input.artifact.built.caller == input.caller.id
}

same_source if {
	chosen.builder.issuer == input.caller.issuer
	repository_named
	chosen.statement.repository == concat("", [chosen.builder.repository_prefix, input.caller.facts.repository])
}

repository_named if {
	is_string(input.caller.facts.repository)
	input.caller.facts.repository != ""
}

# Names of repositories are given away again, ids are not: where an issuer tells the id, it has to agree.
same_repository_id if input.artifact.built.repository_id == input.caller.facts.repository_id

same_repository_id if {
	not input.artifact.built.repository_id
	not input.caller.facts.repository_id
}

unmet contains "build_trust_tier_too_low" if not at_least(origin.tier, settings.min_build_trust_tier)

unmet contains "source_unverified" if {
	strict
	not source_verified
}

# Some issuer has vouched for the repository: what a person built from their own disk stays out.
source_verified if {
	is_string(origin.repository)
	origin.repository != ""
}

concerned if not settings.provenance.required == false

unmet contains "provenance_level_too_low" if {
	concerned
	not level_reached
}

level_reached if {
	is_number(judged.level)
	judged.level >= settings.provenance.min_level
}

unmet contains "provenance_stale" if {
	concerned
	not younger(judged.finished_at, settings.provenance.max_age_seconds)
}

# Null is a builder that does not tell, which is not the same as none.
unmet contains "build_used_caches" if {
	concerned
	not settings.provenance.caches_allowed == true
	not judged.caches == []
}

unmet contains "build_reached_out" if {
	concerned
	not settings.provenance.egress_refused_allowed == true
	not judged.egress_refused == 0
}
