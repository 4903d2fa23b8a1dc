# What must hold before a job may touch staging. Production demands all of this and more.
#
# Each requirement is a positive statement about a verified fact and is compared with `== true`, so that a
# missing field, a null or a number is as good as no. `satisfied` and `unmet` say the same thing twice, once as
# a conjunction and once as a list of reasons; a grant needs both to agree.
package orchestrator.staging

import data.orchestrator.tiers

settings := data.environments.staging

allow if {
	input.request.deployment_environment == "staging"
	satisfied
}

satisfied if {
	artifact_known
	signed
	sbom_present
	built_here
	same_source
	build_tier_sufficient
	base_approved
	tier_sufficient
	isolated
	count(unmet) == 0
}

# The evidence is about the very digest that the job asks to deploy.
artifact_known if input.artifact.digest == input.request.artifact_digest

signed if input.artifact.signed == true

sbom_present if input.artifact.sbom == true

# Built in a job of this orchestrator: such provenance is signed by our own evidence key for a builder of ours.
built_here if {
	input.artifact.provenance == true
	is_string(input.artifact.built.builder)
	input.artifact.built.builder != ""
}

# Built from the source that the deploying job comes from, else one team's job could deploy another team's work,
# or what a stranger built and named alike. A repository is what one issuer calls so.
same_source if {
	input.artifact.built.caller_issuer == input.caller.issuer
	is_string(input.caller.facts.repository)
	input.caller.facts.repository != ""
	input.artifact.built.repository == input.caller.facts.repository
	same_repository_id
}

# A caller whose issuer names no repository, as the local one, is a source of its own.
same_source if {
	not input.caller.facts.repository
	not input.artifact.built.repository
	is_string(input.caller.id)
	input.caller.id != ""
	input.artifact.built.caller == input.caller.id
}

# Names of repositories are given away again, ids are not: where an issuer tells the id, it has to agree.
same_repository_id if input.artifact.built.repository_id == input.caller.facts.repository_id

same_repository_id if {
	not input.artifact.built.repository_id
	not input.caller.facts.repository_id
}

build_tier_sufficient if tiers.at_least(input.artifact.built.trust_tier, settings.min_build_trust_tier)

base_approved if input.artifact.base in settings.approved_bases

tier_sufficient if tiers.at_least(input.pool.trust_tier, settings.min_trust_tier)

# Nothing privileged: only boundaries that are listed count as isolation.
isolated if input.pool.isolation in settings.approved_isolation

unmet contains {
	"code": "artifact_unknown",
	"message": "no verified evidence about this artifact: name its digest (sha256:...) in artifact_digest, and build it in a job of this orchestrator or import its signed provenance",
} if {
	not artifact_known
}

unmet contains {
	"code": "artifact_unsigned",
	"message": "the artifact has no signature that we could verify; sign it in the job that builds it",
} if {
	not signed
}

unmet contains {
	"code": "sbom_missing",
	"message": "the artifact has no verified SBOM; attach one in the job that builds it",
} if {
	not sbom_present
}

unmet contains {
	"code": "built_elsewhere",
	"message": "the artifact was not built in a job of this orchestrator; build it here, so that its provenance is ours",
} if {
	artifact_known
	not built_here
}

unmet contains {
	"code": "source_mismatch",
	"message": "the artifact was built from another source than this job comes from; build and deploy it in pipelines of the same repository (without one: as the same caller)",
} if {
	artifact_known
	not same_source
}

unmet contains {
	"code": "build_trust_tier_too_low",
	"message": sprintf("staging takes only what was built in a pool of trust tier %s or higher; build it there", [settings.min_build_trust_tier]),
} if {
	artifact_known
	not build_tier_sufficient
}

unmet contains {
	"code": "base_not_approved",
	"message": sprintf("the artifact's base is not approved for staging; build it on one of: %s", [bases]),
} if {
	not base_approved
	bases := concat(", ", settings.approved_bases)
}

unmet contains {
	"code": "trust_tier_too_low",
	"message": sprintf("staging needs a pool of trust tier %s or higher; choose another pool", [settings.min_trust_tier]),
} if {
	not tier_sufficient
}

unmet contains {
	"code": "isolation_not_approved",
	"message": sprintf("the pool's isolation is not approved; choose a pool isolated by one of: %s", [kinds]),
} if {
	not isolated
	kinds := concat(", ", settings.approved_isolation)
}

max_duration_seconds := settings.max_duration_seconds

token_ttl_seconds := settings.token_ttl_seconds
