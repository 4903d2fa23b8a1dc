"""`orchestrator attest` and `verify`, without any daemon: what is signed can be checked, and nothing else passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from typer.testing import CliRunner

from orchestrator.cli.main import app

BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "a"}]}
SLSA = "https://slsa.dev/provenance/v1"
BUILDER = "https://build.example/hosted/v1"
PROVENANCE = {
    "buildDefinition": {
        "buildType": "https://build.example/types/v1",
        "externalParameters": {},
        "resolvedDependencies": [{"uri": "git+https://git.example/acme/app", "digest": {"gitCommit": "c" * 40}}],
    },
    "runDetails": {"builder": {"id": BUILDER}, "metadata": {"finishedOn": "2026-01-02T03:04:05Z"}},
}
TRIVY = {"SchemaVersion": 2, "ArtifactName": "app", "CreatedAt": "2026-01-02T03:04:05.123456789Z", "Results": []}
GRYPE = {"matches": [], "descriptor": {"name": "grype", "version": "0.99", "timestamp": "2026-01-02T03:04:05Z"}}
PASSPHRASE = "a-passphrase"


def write_key(folder: Path, name: str, private, passphrase: str = "") -> None:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    hidden = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(private.private_bytes(pem, pkcs8, hidden))
    public = private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)


TOOL = {"signature": [], "sbom": [], "scan": ["--scanner", "trivy"], SLSA: []}
DOCUMENTS = {"signature": "", "sbom": "bom.json", "scan": "trivy.json", SLSA: "slsa.json"}


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Path:
    """A folder with an artifact, documents about it, keys, and a bundle of each kind: `0.sigstore.json` and so on."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "app").write_bytes(b"what was built")
    (folder / "other").write_bytes(b"something else")
    for name, document in {"bom": BOM, "slsa": PROVENANCE, "trivy": TRIVY, "grype": GRYPE, "list": []}.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    write_key(folder, "us", ec.generate_private_key(ec.SECP256R1()))
    write_key(folder, "ed", ed25519.Ed25519PrivateKey.generate())
    write_key(folder, "hidden", ec.generate_private_key(ec.SECP256R1()), PASSPHRASE)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    for number, (kind, document) in enumerate(DOCUMENTS.items()):
        bundle = ["-o", str(folder / f"{number}.sigstore.json"), "--key", str(folder / "us.pem")]
        more = ["--predicate", str(folder / document)] if document else []
        done = CliRunner().invoke(app, ["attest", str(folder / "app"), "--type", kind, *bundle, *more, *TOOL[kind]])
        assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def here(kit, tmp_path, monkeypatch):
    shutil.copytree(kit, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def attest(cli, here):
    def attest(kind: str, *more: str, key: str = "us.pem", artifact: str = "app"):
        return cli("attest", artifact, "--type", kind, "--key", key, *more)

    return attest


@pytest.fixture
def dressed(here):
    """Files of the bundles, by their kind."""
    return {kind: f"{number}.sigstore.json" for number, kind in enumerate(DOCUMENTS)}


def verify(cli, *arguments: str, artifact: str = "app"):
    return cli("verify", artifact, "--signer", "us=us.pub", *arguments)


def test_a_dressed_artifact(cli, dressed):
    done = verify(cli, *dressed.values(), "--builder", f"{BUILDER}=3", "--level", "3", "--scanner", "trivy")
    assert done.exit_code == 0, done.stdout
    for words in ("verified, by the keys named", "https://git.example/acme/app", "c" * 40, BUILDER, "level 3", "trivy"):
        assert words in done.stdout


def test_json_has_the_four_answers(cli, dressed):
    told = json.loads(verify(cli, *dressed.values(), "--builder", BUILDER, "--json").stdout)
    assert told["verified"] is True
    assert told["what"]["digest"].startswith("sha256:")
    assert told["source"] == {"repository": "https://git.example/acme/app", "commit": "c" * 40}
    assert told["system"] == {"builder": BUILDER, "signer": "us"}
    assert told["policy"] == {}  # a builder of others does not say
    assert [one["scanner"] for one in told["facts"]["scans"]] == ["trivy"]


@pytest.mark.parametrize("left_out", ["signature", "sbom", SLSA])
def test_each_of_the_three_is_needed(cli, dressed, left_out):
    """One statement of one kind is no other: what is verified by its SBOM alone is not signed."""
    files = [file for kind, file in dressed.items() if kind != left_out]
    done = verify(cli, *files)
    assert done.exit_code == 1
    assert f"no {left_out.replace(SLSA, 'provenance')} of this digest" in done.stdout
    kinds = [word for kind in ("signature", "sbom", "provenance") for word in ("--type", kind)]
    assert verify(cli, *files, *kinds).exit_code == 1
    wanted = "sbom" if left_out == "signature" else "signature"
    assert verify(cli, *files, "--type", wanted).exit_code == 0


@pytest.mark.parametrize(
    "demand",
    [
        ("--builder", BUILDER + "/"),
        ("--builder", f"{BUILDER}=2", "--level", "3"),
        ("--source", "https://git.example/acme/other"),
        ("--source", "git.example/acme/app"),
        ("--commit", "d" * 40),
        ("--scanner", "grype"),
        ("--environment", "prod"),
        ("--type", "summary"),
    ],
)
def test_a_demand_that_is_not_met(cli, dressed, demand):
    done = verify(cli, *dressed.values(), *demand)
    assert done.exit_code == 1
    assert "NOT VERIFIED" in done.stdout


def test_another_artifact_another_key(cli, dressed):
    assert verify(cli, *dressed.values(), artifact="other").exit_code == 1
    done = cli("verify", "app", "--signer", "us=ed.pub", *dressed.values())
    assert done.exit_code == 1
    assert done.stdout.count("key_unknown") == 4


def test_every_kind_of_key(cli, attest, here):
    for key in ("us", "ed"):
        assert attest("signature", "-o", "made.json", key=f"{key}.pem").exit_code == 0
        assert cli("verify", "app", "--signer", f"who={key}.pub", "--type", "signature", "made.json").exit_code == 0
    done = attest("signature", "--passphrase-file", "passphrase", "-o", "made.json", key="hidden.pem")
    assert done.exit_code == 0, done.stderr
    for passphrase in ([], ["--passphrase-file", "bom.json"]):
        done = attest("signature", *passphrase, key="hidden.pem")
        assert done.exit_code == 1
        assert PASSPHRASE not in done.stderr


def test_a_bundle_is_printed_and_names_the_artifact(attest, here):
    bundle = json.loads(attest("sbom", "--predicate", "bom.json", "--name", "shop").stdout)
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert "keyid" not in bundle["dsseEnvelope"]["signatures"][0]


def test_a_digest_instead_of_a_file(cli, attest, here):
    digest = json.loads(verify(cli, "list.json", "--json").stdout)["digest"]
    assert attest("signature", "-o", "made.json", artifact=digest).exit_code == 0
    assert verify(cli, "made.json", "--type", "signature").exit_code == 0


def test_reports_of_scanners(cli, attest, here):
    assert attest("scan", "--predicate", "grype.json", "-o", "made.json").exit_code == 0
    told = json.loads(verify(cli, "made.json", "--type", "scan", "--json").stdout)["facts"]["scans"][0]
    assert (told["scanner"], told["version"], told["finished_at"]) == ("grype", "0.99", "2026-01-02T03:04:05Z")


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        ("signature", ["--predicate", "bom.json"], "leave --predicate out"),
        ("sbom", [], "--predicate FILE"),
        ("sbom", ["--predicate", "trivy.json"], "neither CycloneDX nor SPDX"),
        ("sbom", ["--predicate", "list.json"], "holds no JSON object"),
        ("sbom", ["--predicate", "gone.json"], "cannot read gone.json"),
        ("scan", ["--predicate", "trivy.json"], "does not name its scanner"),
        ("scan", ["--predicate", "bom.json", "--scanner", "x"], "does not tell its time"),
        (
            "scan",
            ["--predicate", "bom.json", "--scanner", "x", "--finished-at", "2026-01-02T03:04:05Z"],
            "scan_format_unknown",
        ),
        ("provenance", ["--predicate", "slsa.json"], "there is no such type"),
        (SLSA, ["--predicate", "bom.json"], "provenance_malformed"),
    ],
)
def test_what_would_count_for_nothing_is_not_made(attest, here, kind, more, words):
    done = attest(kind, "-o", "made.json", *more)
    assert done.exit_code in (1, 2)
    assert words in done.stderr
    assert not Path("made.json").exists()


@pytest.mark.parametrize("key", ["us.pub", "gone.pem", "bom.json"])
def test_what_is_no_private_key(attest, here, key):
    done = attest("signature", key=key)
    assert done.exit_code == 1
    assert key in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--signer", "us.pub", "0.json"], "--signer NAME=FILE"),
        (["--signer", "control-plane=us.pub", "0.json"], "--key is the daemon's"),
        (["--signer", "us=us.pem", "0.json"], "PRIVATE KEY"),
        (["--signer", "us=gone.pub", "0.json"], "cannot read gone.pub"),
        (["--signer", "us=us.pub", "--signer", "two=us.pub", "0.json"], "one key in common"),
        (["--signer", "us=us.pub", "--type", "sign", "0.json"], "one of signature"),
        (["--signer", "us=us.pub", "--level", "3", "0.json"], "--builder ID=3"),
        (["--signer", "us=us.pub", "--builder", "", "0.json"], "the id is empty"),
        (["--signer", "us=us.pub", "gone.json"], "cannot read gone.json"),
    ],
)
def test_what_was_typed_does_not_fit(cli, here, arguments, words):
    done = cli("verify", "app", *arguments)
    assert done.exit_code in (1, 2)
    assert words in done.stderr


@pytest.mark.parametrize("artifact", ["gone", "sha256:abc"])
def test_an_artifact_that_is_none(cli, here, artifact):
    assert cli("verify", artifact, "--signer", "us=us.pub", "list.json").exit_code == 2


def test_files_that_are_no_attestations_count_for_nothing(cli, here):
    done = verify(cli, "list.json", "bom.json", "app")
    assert done.exit_code == 1
    assert "envelope_malformed" in done.stdout
