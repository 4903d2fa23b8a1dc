# Documents for the tests. Settings are the tests' own, so that other data does not break them.
package orchestrator.fixtures_test

import data.orchestrator.controls

digest := "sha256:1111111111111111111111111111111111111111111111111111111111111111"

environments := {
	"staging": {
		"strict": false,
		"approved_bases": ["distroless", "ubi-minimal", "host-toolchain"],
		"approved_isolation": ["bubblewrap"],
		"min_trust_tier": "standard",
		"min_build_trust_tier": "standard",
		"max_duration_seconds": 1800,
		"token_ttl_seconds": 600,
		"signers": [],
		"registries": ["registry.test.example/shop/"],
		"sbom_contents": {"required": false},
		"provenance": {"required": false, "builders": [builder]},
		"source": {"required": false},
		"approvals": {"required": false, "kinds": {}},
		"scans": {"required": false},
		"ticket": {"required": false},
		"modes": {},
	},
	"prod": {
		"strict": true,
		"approved_bases": ["distroless", "ubi-minimal"],
		"approved_isolation": ["bubblewrap"],
		"min_trust_tier": "protected",
		"min_build_trust_tier": "protected",
		"max_duration_seconds": 900,
		"token_ttl_seconds": 300,
		"signers": [],
		"registries": ["registry.test.example/shop"],
		"sbom_contents": {"required": true, "formats": ["cyclonedx"], "min_components": 2},
		"provenance": {
			"required": true, "builders": [builder], "min_level": 2, "max_age_seconds": 7200,
			"caches_allowed": false, "egress_refused_allowed": false,
		},
		"source": {"required": true, "signed": false, "reviewed": false, "sensitive_repositories": []},
		"approvals": {"required": true, "kinds": {"security": 1}},
		"scans": {
			"required": true, "scanners": ["trivy"], "max_age_seconds": 3600,
			"max": {"critical": 0, "high": 1, "medium": null, "low": 9}, "ignored": [],
		},
		"ticket": {"required": true, "projects": ["REL"], "types": []},
		"modes": {},
	},
}

# Another builder that counts for repositories of the same issuer.
builder := {
	"id": "https://other.test.example/builder",
	"issuer": "https://ci.test.example",
	"repository_prefix": "https://code.test.example/",
	"trust_tier": "protected",
	"base": "distroless",
}

audiences := {
	"https://staging.test.example": {
		"environments": ["staging"],
		"min_trust_tier": "standard",
		"ttl_seconds": 900,
	},
	"https://prod.test.example": {
		"environments": ["prod"],
		"min_trust_tier": "protected",
		"ttl_seconds": 120,
	},
	"https://cache.test.example": {
		"environments": ["", "staging"],
		"min_trust_tier": "standard",
		"ttl_seconds": 60,
	},
}

build := {
	"stage": "admission",
	"time": "2026-11-22T10:00:00.000000000Z",
	"job": {"id": "dispatch.a.1", "source": "dispatch", "attempt": 1},
	"caller": {
		"id": "0123456789abcdef",
		"issuer": "https://ci.test.example",
		"subject": "repo:acme/shop",
		"facts": {"repository": "acme/shop"},
	},
	"pool": {"name": "default", "trust_tier": "standard", "isolation": "bubblewrap", "base": "host-toolchain"},
	"runner": null,
	"request": {"audience": "", "deployment_environment": "", "artifact_digest": "", "ticket": "", "secrets": []},
	"artifact": null,
	"approvals": [],
	"exceptions": [],
	"source": null,
	"ticket": null,
	"credentials": {"workload_identity": true, "static_secrets": 0, "secrets": []},
	"workload": null,
	"claimed": {},
}

# What a job of this orchestrator built, reported and had scanned.
artifact := {
	"digest": digest,
	"signed": true,
	"sbom": true,
	"provenance": true,
	"base": "distroless",
	"built": {
		"builder": "https://ci.test.example/builders/sandbox/bubblewrap/standard/v1",
		"trust_tier": "standard",
		"repository": "acme/shop",
		"caller_issuer": "https://ci.test.example",
		"caller": "0123456789abcdef",
	},
	"signatures": [],
	"sboms": [],
	"provenances": [],
	"scans": [],
}

staging := object.union(build, {
	"request": {"deployment_environment": "staging", "artifact_digest": digest},
	"artifact": artifact,
})

# The same, built and deployed by a caller whose issuer names no repository.
local := sourced(staging, {}, {})

# `document` with other facts of its caller and of its artifact's repository; all else as it was.
sourced(document, facts, repository) := object.union(object.remove(document, ["caller", "artifact"]), {
	"caller": object.union(object.remove(document.caller, ["facts"]), {"facts": facts}),
	"artifact": object.union(object.remove(document.artifact, ["built"]), {"built": object.union(
		object.remove(document.artifact.built, ["repository"]),
		repository,
	)}),
})

approval := {
	"id": "sha256:a",
	"kind": "security",
	"environment": "prod",
	"artifact_digest": digest,
	"repository_id": "",
	"commit": "",
	"approver": "sam",
	"approver_subjects": ["security@acme.example"],
	"own": false,
	"expires_at": "2026-11-22T11:00:00Z",
}

scan := {
	"signer": "control-plane",
	"scanner": "trivy",
	"finished_at": "2026-11-22T09:30:00Z",
	"counts": {"critical": 0, "high": 0, "medium": 70, "low": 0, "unknown": 0},
	"found": [],
	"truncated": false,
}

provenance := {
	"signer": "control-plane",
	"attestation": "sha256:b",
	"builder": "https://ci.test.example/builders/sandbox/bubblewrap/protected/v1",
	"level": 2,
	"repository": "acme/shop",
	"commit": "c0ffee",
	"finished_at": "2026-11-22T09:00:00Z",
	"caches": [],
	"egress_refused": 0,
}

source := {
	"repository": "acme/shop", "repository_id": "42", "commit": "c0ffee", "protected": true, "merged": true,
	"commit_verified": true, "reviewed": true, "from": "github",
}

ticket := {"id": "REL-7", "exists": true, "open": true, "project": "REL", "type": "release"}

prod := object.union(staging, {
	"request": {"deployment_environment": "prod", "ticket": "REL-7"},
	"caller": {"facts": {"repository_id": "42"}},
	"pool": {"trust_tier": "protected"},
	"artifact": {
		"built": {
			"builder": provenance.builder, "trust_tier": "protected", "repository_id": "42", "sha": "c0ffee",
		},
		"signatures": [{"signer": "control-plane", "attestation": "sha256:c"}],
		"sboms": [{"signer": "control-plane", "format": "cyclonedx", "components": 40}],
		"provenances": [provenance],
		"scans": [scan],
	},
	"approvals": [approval],
	"source": source,
	"ticket": ticket,
})

# What another builder than ours made, for the same repository.
outside := object.union(object.remove(prod, ["artifact", "source"]), {
	"artifact": object.union(prod.artifact, {"base": "", "built": {"builder": ""}, "provenances": [other]}),
	"source": object.union(source, {"commit": "decade"}),
})

other := object.union(provenance, {
	"signer": "other", "builder": builder.id, "repository": "https://code.test.example/acme/shop", "commit": "decade",
})

exception := {
	"id": "sha256:1111111111111111111111111111111111111111111111111111111111111111",
	"kind": "break_glass",
	"environment": "prod",
	"repository_id": "",
	"job": "",
	"artifact_digest": "",
	"waives": ["scan_missing"],
	"requested_by": "kim",
	"approvers": ["sam", "alex"],
	"own": false,
	"starts_at": "2026-11-22T09:00:00Z",
	"expires_at": "2026-11-22T11:00:00Z",
	"uses": 0,
	"max_uses": 1,
}

exceptions := {
	"token_ttl_seconds": 90,
	"waivable": {
		"break_glass": ["scan_missing", "scan_stale", "ticket_missing", "ticket_unfit", "artifact_unsigned"],
		"override": ["scan_stale", "ticket_unfit"],
	},
}

workload := {
	"cluster": "c", "namespace": "shop", "kind": "Pod", "name": "shop", "privileged": false,
	"images": [concat("@", ["registry.test.example/shop/app", digest])],
}

# The same environment asked about without a job: by a pull request, and by a cluster.
check(document) := object.union(document, {"stage": "check", "job": null})

deployment(document) := object.union(object.remove(document, ["caller", "pool"]), {
	"stage": "deployment", "job": null, "caller": null, "pool": null, "workload": workload,
})

exchange(document, audience) := object.union(document, {
	"stage": "exchange",
	"runner": {"name": "runner-1", "uid": "u-1", "bound_at": "2026-11-22T09:59:00Z"},
	"request": {"audience": audience},
})

codes(reasons) := {reason.code | some reason in reasons}

# Codes of what `document` does not meet.
unmet(document) := unmet_among(document, environments)

unmet_among(document, settings) := result if {
	result := controls.unmet with input as document
		with data.environments as settings
		with data.exceptions as exceptions
		with data.secrets as {"tiers": ["standard"]}
}

# The same when production's settings are changed.
unmet_with(document, change) := unmet_among(document, object.union(environments, {"prod": change}))

# Values that stand where `true` is wanted, and are not.
untrue := [false, null, 0, 1, "true", [], {}]
