# What a cluster is to start, as its API server tells. Only the stage `deployment` has any.
package orchestrator.workload

import data.orchestrator.environment.settings

codes := {"privileged", "image_not_pinned", "registry_not_approved"}

concerned if input.stage == "deployment"

unmet contains "privileged" if {
	concerned
	not input.workload.privileged == false
}

unmet contains "image_not_pinned" if {
	concerned
	not all_pinned
}

all_pinned if {
	count(input.workload.images) > 0
	every image in input.workload.images { regex.match(`@sha256:[0-9a-f]{64}$`, image) }
}

unmet contains "registry_not_approved" if {
	concerned
	not all_approved
}

all_approved if {
	count(input.workload.images) > 0
	every image in input.workload.images { approved(image) }
}

# A registry or a folder in one; the stroke keeps names out that only begin alike.
approved(image) if {
	some registry in settings.registries
	startswith(image, sprintf("%s/", [trim_suffix(registry, "/")]))
}
