"""`orchestrator artifacts`: what is shown of an artifact, fetched of it, and given in."""

from __future__ import annotations

import hashlib
import json

import pytest

from orchestrator.server.artifacts.shapes import ArtifactListView, ArtifactView

APP = b"the artifact"
DIGEST = "sha256:" + hashlib.sha256(APP).hexdigest()
ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
SBOM = "https://cyclonedx.org/bom"
REPORTER = {"job": "dispatch.b.1", "builder": "b", "caller": "c", "pool": "p", "trust_tier": "standard"}


def attestation(name=ONE, kind=SBOM, signers=("control-plane",), counts_for=("sbom",), reason=""):
    return {
        "id": name,
        "standing": "own",
        "predicate_type": kind,
        "signers": list(signers),
        "counts_for": list(counts_for),
        "reason": reason,
    }


@pytest.fixture
def desk(local_daemon):
    facts = {
        "digest": DIGEST,
        "signed": False,
        "signatures": [],
        "sboms": [{"signer": "control-plane", "format": "cyclonedx", "components": 7, "reporter": REPORTER}],
        "provenances": [{"signer": "release", "level": 3, "builder": "https://b.example"}],
        "scans": [
            {"signer": "x", "scanner": "trivy", "finished_at": "2027-01-01T00:00:00Z", "counts": {"high": 2, "low": 0}}
        ],
        "built": {},
        "reason": "provenance_missing",
    }
    listed = [attestation(), attestation(TWO, "t", signers=(), counts_for=(), reason="key_unknown")]
    local_daemon.artifacts[DIGEST] = {"digest": DIGEST, "facts": facts, "attestations": listed}
    return local_daemon


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "app.whl"
    path.write_bytes(APP)
    return path


def test_the_test_server_fits_the_schemas(cli, desk):
    ArtifactView.model_validate(json.loads(cli("artifacts", "show", DIGEST, "--json").stdout))
    ArtifactListView.model_validate(json.loads(cli("artifacts", "list", "--json").stdout))


def test_no_artifacts_are_said_to_be_none(cli, local_daemon):
    done = cli("artifacts", "list")
    assert (done.stdout, done.stderr) == ("", "nothing was signed about any artifact\n"), "scripts read the list"


def test_a_file_stands_for_its_digest_and_facts_are_told_apart(cli, desk, app):
    text = cli("artifacts", "show", str(app)).stdout
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line.startswith("  ")}
    assert text.splitlines()[0] == DIGEST
    assert lines["signed"].split() == ["signed", "no"]
    assert "cyclonedx, 7 components, reported by dispatch.b.1" in lines["bill of materials"]
    assert "by release (level 3, https://b.example)" in lines["provenance"]
    assert "trivy at 2027-01-01T00:00:00Z: 2 high" in lines["scanned"]
    assert "no: provenance_missing" in lines["built here"]


def test_each_attestation_says_what_it_counts_for_or_why_it_does_not(cli, desk):
    text = cli("artifacts", "show", DIGEST).stdout
    assert "key_unknown" in text
    assert "nobody known" in text


def test_what_the_daemon_says_reaches_no_terminal_raw(cli, desk):
    desk.artifacts[DIGEST]["attestations"][0]["predicate_type"] = "a\x1b[31mb"
    assert "\x1b[31m" not in cli("artifacts", "show", DIGEST).stdout


def test_a_bundle_is_fetched_by_id_or_by_the_one_type_that_counts(cli, desk):
    assert json.loads(cli("artifacts", "fetch", DIGEST, TWO).stdout)["of"] == TWO
    assert json.loads(cli("artifacts", "fetch", DIGEST, "--type", SBOM).stdout)["of"] == ONE
    desk.artifacts[DIGEST]["attestations"].append(attestation("sha256:" + "3" * 64))
    many = cli("artifacts", "fetch", DIGEST, "--type", SBOM)
    assert (many.exit_code, many.stdout) == (1, "")
    assert "2 attestations of this type are by a known signer and in order, not one" in many.stderr
    for wrong in ((), (ONE, "--type", SBOM)):
        assert cli("artifacts", "fetch", DIGEST, *wrong).exit_code == 2


def test_bundles_are_given_in_as_they_are_and_their_worth_is_told(cli, desk, app, tmp_path):
    bundle = tmp_path / "bundle.json"
    bundle.write_text('{"mediaType": "x", "n": 1}')
    done = cli("artifacts", "upload", str(app), str(bundle), str(bundle))
    assert (done.exit_code, done.stdout.count("counts as sbom")) == (0, 2)
    assert desk.bodies == [{"mediaType": "x", "n": 1}] * 2
    desk.artifacts[DIGEST]["attestations"][0] = attestation(counts_for=(), reason="signer_expired")
    assert "counts for nothing: signer_expired" in cli("artifacts", "upload", DIGEST, str(bundle)).stdout


@pytest.mark.parametrize("content", [None, b"[]", b"{", b"\xff", b" " * ((6 << 20) + 1)])
def test_a_file_that_is_no_bundle_is_not_sent(cli, desk, tmp_path, content):
    bundle = tmp_path / "bundle.json"
    if content is not None:
        bundle.write_bytes(content)
    done = cli("artifacts", "upload", DIGEST, str(bundle))
    assert done.exit_code == 2
    assert str(bundle) in done.stderr
    assert desk.bodies == []


def test_what_is_neither_digest_nor_file_says_so(cli, desk):
    for wrong in ("sha256:123", "/no/such/file"):
        done = cli("artifacts", "show", wrong)
        assert done.exit_code == 2
        assert "is no digest, and cannot be read as a file" in done.stderr
    assert cli("artifacts", "show", TWO).exit_code == 1
