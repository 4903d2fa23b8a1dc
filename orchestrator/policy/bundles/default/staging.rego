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
	base_approved
	tier_sufficient
	isolated
	count(unmet) == 0
}

# The evidence is about the very digest that the job asks to deploy.
artifact_known if input.artifact.digest == input.request.artifact_digest

signed if input.artifact.signed == true

sbom_present if input.artifact.sbom == true

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
