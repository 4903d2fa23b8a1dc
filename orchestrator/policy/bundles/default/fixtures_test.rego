# Documents for the tests. Settings are the tests' own, so that other data does not break them.
package orchestrator.fixtures_test

digest := "sha256:1111111111111111111111111111111111111111111111111111111111111111"

environments := {
	"staging": {
		"approved_bases": ["distroless", "ubi-minimal", "host-toolchain"],
		"approved_isolation": ["bubblewrap"],
		"min_trust_tier": "standard",
		"min_build_trust_tier": "standard",
		"max_duration_seconds": 1800,
		"token_ttl_seconds": 600,
	},
	"prod": {
		"approved_bases": ["distroless", "ubi-minimal"],
		"min_trust_tier": "protected",
		"min_build_trust_tier": "protected",
		"max_duration_seconds": 3600,
		"token_ttl_seconds": 300,
	},
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
	"request": {"audience": "", "deployment_environment": "", "artifact_digest": ""},
	"artifact": null,
	"approvals": [],
	"credentials": {"workload_identity": true, "static_secrets": 0},
	"claimed": {},
}

staging := object.union(build, {
	"request": {"deployment_environment": "staging", "artifact_digest": digest},
	"artifact": {
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
	},
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
	"kind": "security",
	"environment": "prod",
	"artifact_digest": digest,
	"approver": "security@acme.example",
	"expires_at": "2026-11-22T11:00:00Z",
}

prod := object.union(staging, {
	"request": {"deployment_environment": "prod"},
	"pool": {"trust_tier": "protected"},
	"artifact": {"built": {"trust_tier": "protected"}},
	"approvals": [approval],
})

exchange(document, audience) := object.union(document, {
	"stage": "exchange",
	"runner": {"name": "runner-1", "uid": "u-1", "bound_at": "2026-11-22T09:59:00Z"},
	"request": {"audience": audience},
})

codes(reasons) := {reason.code | some reason in reasons}
