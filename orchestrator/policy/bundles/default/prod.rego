# What must hold before a job may touch production: everything that staging demands, and this.
package orchestrator.prod

import data.orchestrator.staging
import data.orchestrator.tiers

settings := data.environments.prod

allow if {
	input.request.deployment_environment == "prod"
	satisfied
}

satisfied if {
	staging.satisfied
	source_verified
	build_tier_sufficient
	base_approved
	tier_sufficient
	security_approved
	secretless
	count(unmet) == 0
}

# Some issuer has vouched for the repository: what a person built from their own disk stays out.
source_verified if {
	is_string(input.artifact.built.repository)
	input.artifact.built.repository != ""
}

build_tier_sufficient if tiers.at_least(input.artifact.built.trust_tier, settings.min_build_trust_tier)

base_approved if input.artifact.base in settings.approved_bases

tier_sufficient if tiers.at_least(input.pool.trust_tier, settings.min_trust_tier)

# An approval counts for one artifact and one environment, until it expires, and not if the job's own caller
# gave it.
security_approved if {
	some approval in input.approvals
	approval.kind == "security"
	approval.environment == "prod"
	approval.artifact_digest == input.artifact.digest
	is_string(approval.approver)
	approval.approver != input.caller.subject
	time.parse_rfc3339_ns(approval.expires_at) > time.parse_rfc3339_ns(input.time)
}

# Credentials come from workload identity and from nowhere else.
secretless if {
	input.credentials.workload_identity == true
	input.credentials.static_secrets == 0
}

unmet contains reason if some reason in staging.unmet

unmet contains {
	"code": "source_unverified_for_prod",
	"message": "prod takes only what was built from a repository that the dispatching platform vouches for; have your CI platform dispatch the build with its own token",
} if {
	staging.artifact_known
	not source_verified
}

unmet contains {
	"code": "build_trust_tier_too_low_for_prod",
	"message": sprintf("prod takes only what was built in a pool of trust tier %s or higher; build it there", [settings.min_build_trust_tier]),
} if {
	staging.artifact_known
	not build_tier_sufficient
}

unmet contains {
	"code": "base_not_approved_for_prod",
	"message": sprintf("the artifact's base is not approved for prod; build it on one of: %s", [bases]),
} if {
	not base_approved
	bases := concat(", ", settings.approved_bases)
}

unmet contains {
	"code": "trust_tier_too_low_for_prod",
	"message": sprintf("prod needs a pool of trust tier %s or higher; choose another pool", [settings.min_trust_tier]),
} if {
	not tier_sufficient
}

unmet contains {
	"code": "security_approval_missing",
	"message": "no valid security approval for this artifact in prod; ask somebody other than yourself to approve this very digest",
} if {
	not security_approved
}

unmet contains {
	"code": "static_secrets",
	"message": "prod jobs get their credentials from workload identity only; remove static secrets from the job",
} if {
	not secretless
}

# Never longer than staging, whatever the data says.
max_duration_seconds := min([settings.max_duration_seconds, staging.max_duration_seconds])

token_ttl_seconds := min([settings.token_ttl_seconds, staging.token_ttl_seconds])
