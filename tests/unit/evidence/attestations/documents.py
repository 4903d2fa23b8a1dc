"""Documents as their tools write them, in short."""

from __future__ import annotations

from typing import Any

CYCLONEDX = "https://cyclonedx.org/bom"
SPDX = "https://spdx.dev/Document"
VULN = "https://cosign.sigstore.dev/attestation/vuln/v1"
VULNS = "https://in-toto.io/attestation/vulns/v0.2"
SLSA = "https://slsa.dev/provenance/v1"
SLSA_02 = "https://slsa.dev/provenance/v0.2"
SIGN = "https://sigstore.dev/cosign/sign/v1"
FINISHED = "2027-01-15T08:05:00Z"
COMMIT = "c" * 40


def bom(*names: str, **more: Any) -> dict[str, Any]:
    components = [{"type": "library", "name": name, "version": "1"} for name in names]
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": components, **more}


def spdx(*names: str) -> dict[str, Any]:
    return {
        "spdxVersion": "SPDX-2.3",
        "creationInfo": {"created": FINISHED},
        "packages": [{"name": name, "SPDXID": f"SPDXRef-{name}"} for name in names],
    }


def scan(result: Any, uri: str = "pkg:github/aquasecurity/trivy@v0.69", finished: Any = FINISHED) -> dict[str, Any]:
    return {
        "invocation": {"parameters": None, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": uri, "version": "v0.69", "db": {"uri": "", "version": ""}, "result": result},
        "metadata": {"scanStartedOn": FINISHED, "scanFinishedOn": finished},
    }


def trivy(*found: tuple[str, str, str]) -> dict[str, Any]:
    """(id, severity in Trivy's words, fixed version)."""
    vulnerabilities = [
        {"VulnerabilityID": name, "PkgName": "p", "Severity": severity, "FixedVersion": fixed}
        for name, severity, fixed in found
    ]
    return {
        "SchemaVersion": 2,
        "ArtifactName": "app",
        "Results": [{"Target": "app", "Vulnerabilities": vulnerabilities}],
    }


def provenance(builder: str, **parameters: Any) -> dict[str, Any]:
    """As a hosted builder writes it."""
    return {
        "buildDefinition": {
            "buildType": "https://build.example/types/container/v1",
            "externalParameters": parameters or {"workflow": {"repository": "https://git.example/acme/app"}},
            "resolvedDependencies": [
                {"uri": "pkg:docker/builder@1"},
                {"uri": "git+https://git.example/acme/app@refs/heads/main", "digest": {"gitCommit": COMMIT}},
            ],
        },
        "runDetails": {"builder": {"id": builder}, "metadata": {"invocationId": "run/7", "finishedOn": FINISHED}},
    }


def provenance_02(builder: str) -> dict[str, Any]:
    return {
        "builder": {"id": builder},
        "buildType": "https://build.example/types/container/v0",
        "invocation": {
            "configSource": {
                "uri": "git+https://user:secret@git.example/acme/app@refs/heads/main",
                "digest": {"sha1": COMMIT},
            },
            "parameters": {"level": "9"},
        },
        "metadata": {"buildInvocationId": "run/8", "buildFinishedOn": FINISHED},
        "materials": [],
    }
