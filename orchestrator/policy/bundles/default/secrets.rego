# Long-lived secrets that a job wants. Credentials come from workload identity; what is left of the old ones is
# registered, and given to nobody who may change production.
package orchestrator.secrets

import data.orchestrator.environment.strict

codes := {"static_secrets", "secret_not_allowed", "secret_overdue"}

concerned if input.stage != "deployment"

# Nothing is asked for: the usual case.
secretless if {
	input.credentials.static_secrets == 0
	input.request.secrets == []
}

unmet contains "static_secrets" if {
	concerned
	not bearable
}

bearable if {
	input.credentials.workload_identity == true
	secretless
}

# No secrets where the environment is strict, nor in a pool of a tier that the data keeps free of them.
bearable if {
	input.credentials.workload_identity == true
	not kept_free
	input.pool.trust_tier in data.secrets.tiers
}

kept_free if {
	input.request.deployment_environment != ""
	strict
}

unmet contains "secret_not_allowed" if {
	concerned
	not all_allowed
}

all_allowed if {
	every name in input.request.secrets { allowed(name) }
}

allowed(name) if {
	some secret in input.credentials.secrets
	secret.name == name
	secret.allowed == true
}

# A secret that grows too old while a job runs does not take the job's identity from it.
unmet contains "secret_overdue" if {
	concerned
	input.stage != "exchange"
	not all_fresh
}

all_fresh if {
	every name in input.request.secrets { fresh(name) }
}

fresh(name) if {
	some secret in input.credentials.secrets
	secret.name == name
	secret.overdue == false
}
