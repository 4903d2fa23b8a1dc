"""cosign is the second opinion: it verifies what we sign, we verify what it signs, and both refuse the same."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cosign import Cosign
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from interop import needs

from orchestrator.evidence.attestations.facts import facts
from orchestrator.evidence.attestations.keys import read_keys
from orchestrator.evidence.attestations.making import bundle_text, signature_statement, statement
from orchestrator.evidence.attestations.reading import read_attestation
from orchestrator.evidence.attestations.signers import Claim, Signer, Signers
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, statement_bytes
from orchestrator.evidence.signing_key import EvidenceKey, generate_evidence_key
from orchestrator.evidence.summary import SUMMARY_TYPE

pytestmark = needs("cosign")

CONTENT = b"what the build made\n"
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
BUILDER = "https://build.example/hosted/v1"
FINISHED = "2026-01-02T03:04:05Z"
REPORTER = {"job": "dispatch.a.1", "builder": BUILDER, "caller": "c", "pool": "default", "trust_tier": "standard"}
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a"}]}
SPDX = {"spdxVersion": "SPDX-2.3", "packages": [{"name": "a"}], "creationInfo": {"created": FINISHED}}
SLSA = {
    "buildDefinition": {
        "buildType": "https://build.example/types/v1",
        "externalParameters": {"workflow": "release"},
        "internalParameters": {},
        "resolvedDependencies": [{"uri": "git+https://git.example/acme/app", "digest": {"gitCommit": "c" * 40}}],
    },
    "runDetails": {
        "builder": {"id": BUILDER},
        "metadata": {"invocationId": "7", "startedOn": FINISHED, "finishedOn": FINISHED},
    },
}
SLSA_02 = {
    "builder": {"id": BUILDER},
    "buildType": "https://build.example/types/v0",
    "invocation": {"configSource": {"uri": "git+https://git.example/acme/app", "digest": {"sha1": "c" * 40}}},
    "metadata": {"buildFinishedOn": FINISHED, "buildStartedOn": FINISHED},
}
VULN = {
    "invocation": {"uri": "", "event_id": "", "builder.id": ""},
    "scanner": {
        "uri": "pkg:github/aquasecurity/trivy@v0.69",
        "version": "v0.69",
        "db": {"uri": "", "version": ""},
        "result": {"SchemaVersion": 2, "ArtifactName": "app", "Results": [
            {"Target": "app", "Vulnerabilities": [{"VulnerabilityID": "CVE-1", "Severity": "HIGH"}]},
        ]},
    },
    "metadata": {"scanStartedOn": FINISHED, "scanFinishedOn": FINISHED},
}  # fmt: skip
SUMMARY = {
    "verifier": {"id": "https://ci.example/gate/v1"},
    "timeVerified": FINISHED,
    "resourceUri": "https://ci.example/environments/prod",
    "policy": {"uri": "https://ci.example/policy", "digest": {"sha256": "0" * 64}},
    "verificationResult": "PASSED",
    "verifiedLevels": ["SLSA_BUILD_LEVEL_3"],
}
SIGN = "https://sigstore.dev/cosign/sign/v1"

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    SIGN: ("https://sigstore.dev/cosign/sign/v1", signature_statement([("app", DIGEST)], REPORTER)),
    "cyclonedx": (
        "https://cyclonedx.org/bom",
        statement([("app", DIGEST)], "https://cyclonedx.org/bom", BOM, REPORTER),
    ),
    "spdxjson": (
        "https://spdx.dev/Document",
        statement([("app", DIGEST)], "https://spdx.dev/Document", SPDX, REPORTER),
    ),
    "slsaprovenance1": (
        "https://slsa.dev/provenance/v1",
        statement([("app", DIGEST)], "https://slsa.dev/provenance/v1", SLSA),
    ),
    "vuln": (
        "https://cosign.sigstore.dev/attestation/vuln/v1",
        statement([("app", DIGEST)], "https://cosign.sigstore.dev/attestation/vuln/v1", VULN, REPORTER),
    ),
    SUMMARY_TYPE: (SUMMARY_TYPE, statement([("app", DIGEST)], SUMMARY_TYPE, SUMMARY)),
}
"""By cosign's word for the type."""

THEIRS = {
    "cyclonedx": (BOM, "sboms"),
    "spdxjson": (SPDX, "sboms"),
    "slsaprovenance1": (SLSA, "provenances"),
    "slsaprovenance02": (SLSA_02, "provenances"),
    "vuln": (VULN, "scans"),
}


@pytest.fixture(scope="module")
def cosign(tmp_path_factory) -> Cosign:
    return Cosign(tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="module")
def blob(cosign) -> Path:
    path = cosign.folder / "app"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(scope="module")
def other_blob(cosign) -> Path:
    path = cosign.folder / "other"
    path.write_bytes(b"something else\n")
    return path


@pytest.fixture(scope="module")
def key() -> EvidenceKey:
    return generate_evidence_key()


@pytest.fixture(scope="module")
def public(cosign, key) -> Path:
    path = cosign.folder / "evidence.pub"
    path.write_text(key.public_pem)
    return path


@pytest.fixture(scope="module")
def strangers(cosign) -> Path:
    path = cosign.folder / "stranger.pub"
    path.write_text(generate_evidence_key().public_pem)
    return path


def bundle_of(told: dict[str, Any], key: EvidenceKey) -> str:
    return bundle_text(read_attestation(sign_envelope(statement_bytes(told), IN_TOTO, key)), key.public)


@pytest.mark.parametrize("kind", OURS)
def test_cosign_verifies_ours(cosign, blob, other_blob, key, public, strangers, kind):
    _, told = OURS[kind]
    bundle = bundle_of(told, key)
    assert cosign.refusal(bundle, public, kind, blob) == ""
    assert "signature" in cosign.refusal(bundle, strangers, kind, blob)
    assert "digest" in cosign.refusal(bundle, public, kind, other_blob)
    other = "spdxjson" if kind == "cyclonedx" else "cyclonedx"
    assert "invalid predicate type" in cosign.refusal(bundle, public, other, blob)
    changed = json.loads(bundle)
    changed["dsseEnvelope"] = json.loads(bundle_of(OURS[other][1], key))["dsseEnvelope"] | {
        "signatures": changed["dsseEnvelope"]["signatures"]
    }
    assert "signature" in cosign.refusal(json.dumps(changed), public, other, blob)


def signers(pem: Path, name: str = "theirs") -> Signers:
    keys = read_keys(pem.read_text(), str(pem))
    return Signers([Signer(name, keys, frozenset(Claim), {BUILDER: 3}, frozenset({"trivy"}))])


def found(bundle: str, by: Signers, digest: str = DIGEST) -> dict[str, Any]:
    return facts(digest, [bundle], by, time.time_ns())


def private_pem(path: Path, private: Any) -> Path:
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


MAKE = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 3072),
}


@pytest.fixture(scope="module")
def keys(cosign) -> dict[str, Path]:
    """A key of each kind, all of them cosign's by now; `p256` it has made itself."""
    return {
        name: cosign.generate(name)
        if name == "p256"
        else cosign.take_over(name, private_pem(cosign.folder / f"{name}.pem", make()))
        for name, make in MAKE.items()
    }


@pytest.mark.parametrize("kind", THEIRS)
@pytest.mark.parametrize("name", ["p256", "p384", "rsa"])
def test_we_verify_cosigns_statements(cosign, blob, keys, strangers, name, kind):
    document, listed = THEIRS[kind]
    predicate = cosign.folder / "predicate.json"
    predicate.write_text(json.dumps(document))
    bundle = cosign.attest_blob(name, blob, kind, predicate)
    mine = found(bundle, signers(keys[name]))
    assert len(mine[listed]) == 1
    assert [word for word in ("signatures", "sboms", "provenances", "scans") if mine[word]] == [listed]
    assert not mine["signed"]
    assert found(bundle, signers(strangers))["refused"][0]["reason"] == "key_unknown"
    other = found(bundle, signers(keys[name]), "sha256:" + "0" * 64)
    assert other["refused"][0]["reason"] == "digest_not_covered"
    # cosign 3.1 signs with P-384 and SHA-384, and then verifies with SHA-256: its own refusal of its own.
    assert (cosign.refusal(bundle, keys[name], kind, blob) == "") is (name != "p384")


def test_ed25519_in_both_directions(cosign, blob, keys):
    """It signs a hash of the message (Ed25519ph), and refuses its own; the plain kind, which is ours, it verifies."""
    predicate = cosign.folder / "predicate.json"
    predicate.write_text(json.dumps(BOM))
    theirs = cosign.attest_blob("ed25519", blob, "cyclonedx", predicate)
    assert cosign.refusal(theirs, keys["ed25519"], "cyclonedx", blob) != ""
    assert found(theirs, signers(keys["ed25519"]))["refused"][0]["reason"] == "signature_invalid"
    made = cosign.folder / "made.json"
    private = str(cosign.folder / "ed25519.pem")
    told = ["--type", "sbom", "--predicate", str(predicate), "--key", private, "-o", str(made)]
    done = orchestrator("attest", str(blob), *told)
    assert done.returncode == 0, done.stderr
    assert found(made.read_text(), signers(keys["ed25519"]))["sbom"]
    assert cosign.refusal(made.read_text(), keys["ed25519"], "cyclonedx", blob) == ""


@pytest.mark.parametrize("name", ["p256", "rsa"])
def test_we_verify_cosigns_signatures(cosign, blob, other_blob, keys, strangers, name):
    bundle = cosign.sign_blob(name, blob)
    mine = found(bundle, signers(keys[name]))
    assert (mine["signed"], mine["sbom"], mine["provenance"]) == (True, False, False)
    assert found(bundle, signers(strangers))["refused"][0]["reason"] == "key_unknown"
    other = cosign.sign_blob(name, other_blob)
    assert found(other, signers(keys[name]))["refused"][0]["reason"] == "digest_not_covered"
    assert cosign.refusal_of_signature(bundle, keys[name], other_blob) != ""
    again = bundle_text(read_attestation(bundle), read_keys(keys[name].read_text(), "key")[0])
    assert cosign.refusal_of_signature(again, keys[name], blob) == ""


@pytest.mark.parametrize("name", ["p384", "ed25519"])
def test_signatures_over_the_bytes_that_a_digest_cannot_prove(cosign, blob, keys, name):
    """cosign hashes otherwise for these, or signs the bytes themselves: whoever has only the digest cannot tell."""
    assert not found(cosign.sign_blob(name, blob), signers(keys[name]))["signed"]


def test_an_sbom_alone_is_not_a_signature(cosign, blob, key, public):
    """cosign calls it verified, and so it is: as what it is."""
    bundle = bundle_of(statement([("app", DIGEST)], "https://cyclonedx.org/bom", BOM), key)
    assert cosign.refusal(bundle, public, "cyclonedx", blob) == ""
    mine = found(bundle, signers(public))
    assert (mine["signed"], mine["sbom"]) == (False, True)


def orchestrator(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_what_attest_makes_both_verify(cosign, blob, keys, strangers):
    """With a key of OpenSSL's making, and cosign's bundles beside."""
    folder = cosign.folder
    private = private_pem(folder / "openssl.pem", MAKE["p256"]())
    public = folder / "openssl.pub"
    public.write_bytes(
        subprocess.run(
            ["openssl", "pkey", "-in", str(private), "-pubout"], check=True, capture_output=True, timeout=60
        ).stdout
    )
    (folder / "bom.json").write_text(json.dumps(BOM))
    (folder / "slsa.json").write_text(json.dumps(SLSA))
    made = {
        "signature": (SIGN, []),
        "sbom": ("cyclonedx", ["--predicate", str(folder / "bom.json")]),
        "https://slsa.dev/provenance/v1": ("slsaprovenance1", ["--predicate", str(folder / "slsa.json")]),
    }
    files = []
    for number, (kind, (word, more)) in enumerate(made.items()):
        file = folder / f"made-{number}.json"
        done = orchestrator("attest", str(blob), "--type", kind, "--key", str(private), "-o", str(file), *more)
        assert done.returncode == 0, done.stderr
        assert cosign.refusal(file.read_text(), public, word, blob) == ""
        assert cosign.refusal(file.read_text(), strangers, word, blob) != ""
        files.append(str(file))
    asking = ["verify", str(blob), "--signer", f"us={public}", "--builder", f"{BUILDER}=3", "--level", "3", "--json"]
    done = orchestrator(*asking, *files)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["source"] == {"repository": "https://git.example/acme/app", "commit": "c" * 40}
    assert told["system"]["builder"] == BUILDER
    assert orchestrator(*asking, *files[1:]).returncode == 1
    theirs = folder / "theirs.json"
    theirs.write_text(cosign.sign_blob("p256", blob))
    asking += ["--signer", f"cosign={keys['p256']}"]
    done = orchestrator(*asking, *files[1:], str(theirs))
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["facts"]["signatures"][0]["signer"] == "cosign"
