package orchestrator.artifact_test

import data.orchestrator.fixtures_test as fixtures
import data.orchestrator.fixtures_test.approval
import data.orchestrator.fixtures_test.local
import data.orchestrator.fixtures_test.outside
import data.orchestrator.fixtures_test.prod
import data.orchestrator.fixtures_test.staging
import data.orchestrator.fixtures_test.untrue

unmet(change) := fixtures.unmet(object.union(prod, {"artifact": change}))

test_good_jobs_meet_everything if {
	every document in [staging, prod, local, outside] {
		fixtures.unmet(document) == set()
	}
}

test_no_evidence if {
	fixtures.unmet(object.union(staging, {"artifact": null})) == {
		"artifact_unknown", "artifact_unsigned", "base_not_approved", "build_trust_tier_too_low", "built_elsewhere",
		"sbom_missing", "source_mismatch",
	}
}

test_evidence_of_another_artifact if {
	every digest in ["sha256:2222", "", null] {
		document := object.union(prod, {"request": {"artifact_digest": digest}, "approvals": [object.union(approval, {"artifact_digest": digest})]})
		"artifact_unknown" in fixtures.unmet(document)
	}
}

test_unsigned if {
	every value in untrue {
		unmet({"signed": value}) == {"artifact_unsigned"}
	}
}

test_no_sbom if {
	every value in untrue {
		unmet({"sbom": value}) == {"sbom_missing"}
	}
}

test_sbom_that_lists_little_or_in_another_way if {
	every sbom in [
		{"format": "spdx", "components": 40},
		{"format": "cyclonedx", "components": 1},
		{"format": "cyclonedx", "components": "40"},
		{"format": "cyclonedx"},
		{"components": 40},
	] {
		unmet({"sboms": [sbom]}) == {"sbom_unfit"}
	}
	unmet({"sboms": []}) == {"sbom_unfit"}
	unmet({"sboms": [{"format": "spdx", "components": 40}, {"format": "cyclonedx", "components": 2}]}) == set()
}

test_required_signers if {
	fixtures.unmet_with(prod, {"signers": ["control-plane"]}) == set()
	fixtures.unmet_with(prod, {"signers": ["control-plane", "release"]}) == {"signer_missing"}
	document := object.union(prod, {"artifact": {"signatures": [{"signer": "control-plane"}, {"signer": "release"}]}})
	fixtures.unmet_with(document, {"signers": ["control-plane", "release"]}) == set()
	every odd in [null, "control-plane", {}] {
		fixtures.unmet_with(prod, {"signers": odd}) == {"signer_missing"}
	}
}

test_base_not_approved if {
	every value in ["", "ubuntu", "distroless-evil", "Distroless", null, ["distroless"], "host-toolchain"] {
		unmet({"base": value}) == {"base_not_approved"}
	}
	unmet({"base": "ubi-minimal"}) == set()
}
