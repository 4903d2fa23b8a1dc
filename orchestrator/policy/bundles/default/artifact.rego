# What is proven about the very digest that is to be deployed: a signature, a bill of materials, its base.
#
# Here as in each topic, `unmet` holds the codes of what is demanded and not established. A requirement is established by
# a positive statement about a verified fact, compared with `== true` or with a value of the data, so that a missing field,
# a null or a number is as good as no.
package orchestrator.artifact

import data.orchestrator.environment.settings

codes := {"artifact_unknown", "artifact_unsigned", "signer_missing", "sbom_missing", "sbom_unfit", "base_not_approved"}

unmet contains "artifact_unknown" if not known

# The evidence is about the very digest that the job asks to deploy.
known if input.artifact.digest == input.request.artifact_digest

unmet contains "artifact_unsigned" if not input.artifact.signed == true

unmet contains "signer_missing" if not signed_by_all

# Each signer that the environment names has signed; one that may sign is enough where it names none.
signed_by_all if settings.signers == []

signed_by_all if {
	is_array(settings.signers)
	count(missing_signers) == 0
}

missing_signers := {name | some name in settings.signers} - {signature.signer | some signature in input.artifact.signatures}

unmet contains "sbom_missing" if not input.artifact.sbom == true

unmet contains "sbom_unfit" if {
	not settings.sbom_contents.required == false
	not sbom_fit
}

sbom_fit if {
	some sbom in input.artifact.sboms
	sbom.format in settings.sbom_contents.formats
	is_number(sbom.components)
	sbom.components >= settings.sbom_contents.min_components
}

unmet contains "base_not_approved" if not base_approved

base_approved if input.artifact.base in settings.approved_bases

# On what another builder builds, no provenance says: whoever lists the builder answers for it.
base_approved if data.orchestrator.provenance.chosen.builder.base in settings.approved_bases
