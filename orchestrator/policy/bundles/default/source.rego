# What the platform says of the commit that the artifact was built from.
package orchestrator.source

import data.orchestrator.provenance.origin
import data.orchestrator.provenance.ours

codes := {"commit_not_on_protected_branch", "commit_unsigned", "commit_unreviewed"}

settings := data.orchestrator.environment.settings.source

concerned if not settings.required == false

# Named by name or, better, by id.
sensitive if origin.repository in settings.sensitive_repositories

sensitive if input.artifact.built.repository_id in settings.sensitive_repositories

# The facts are about the very commit that the provenance names, in its repository.
confirmed if {
	is_string(origin.commit)
	origin.commit != ""
	input.source.commit == origin.commit
	same_repository
}

same_repository if {
	ours
	input.source.repository_id == input.artifact.built.repository_id
}

same_repository if {
	not ours
	input.source.repository == origin.repository
}

unmet contains "commit_not_on_protected_branch" if {
	concerned
	not on_protected_branch
}

on_protected_branch if {
	confirmed
	input.source.protected == true
}

unmet contains "commit_unsigned" if {
	concerned
	signature_wanted
	not signed
}

signature_wanted if not settings.signed == false

signature_wanted if sensitive

signed if {
	confirmed
	input.source.commit_verified == true
}

unmet contains "commit_unreviewed" if {
	concerned
	review_wanted
	not reviewed
}

review_wanted if not settings.reviewed == false

review_wanted if sensitive

reviewed if {
	confirmed
	input.source.merged == true
	input.source.reviewed == true
}
