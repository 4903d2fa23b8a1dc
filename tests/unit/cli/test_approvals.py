"""`orchestrator approvals` without a daemon: objects made, signed and read; check-config on who may sign."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.evidence.approvals.envelopes import Envelope, read_envelope
from orchestrator.evidence.approvals.statements import Approval, RuleException, moment_ns, read_statement
from orchestrator.testing.approvals import COMMIT, DIGEST, IDP, private_pem, public, public_pem

BREAK_GLASS = ("break_glass", "-e", "prod", "--artifact", DIGEST, "--waive", "scan_missing", "--as", "carol")


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("alice", "bob", "carol"):
        (tmp_path / f"{name}.pem").write_bytes(private_pem(name))
        (tmp_path / f"{name}.pub").write_text(public_pem(name))
    return tmp_path


@pytest.fixture
def made(cli, folder):
    """Makes an object in a file, signed by carol."""

    def run(*arguments: str) -> tuple[str, Envelope]:
        path = folder / "object.json"
        done = cli("approvals", "request", *arguments, "-r", "why", "--key", str(folder / "carol.pem"), "-o", str(path))
        assert done.exit_code == 0, done.stderr
        return done.stdout.strip(), read_envelope(path.read_text())

    return run


def test_an_approval_of_an_artifact(made):
    name, envelope = made("security", "-e", "prod", "--artifact", DIGEST, "--lasts", "2h")
    said = read_statement(envelope.payload)
    assert isinstance(said, Approval)
    assert (said.kind, said.environment, said.artifact_digest, said.issuer) == ("security", "prod", DIGEST, "")
    assert moment_ns(said.expires_at) - moment_ns(said.starts_at) == 7200 * 10**9
    assert envelope.signers(public("carol")) == set(public("carol"))
    assert name.startswith("sha256:")


def test_an_approval_of_a_commit(made):
    _, envelope = made("release", "-e", "prod", "--repository-id", "42", "--commit", COMMIT)
    said = read_statement(envelope.payload)
    assert isinstance(said, Approval)
    assert (said.issuer, said.commit) == ("https://token.actions.githubusercontent.com", COMMIT)


def test_a_break_glass(made):
    _, envelope = made(*BREAK_GLASS, "--ticket", "INC-1", "--uses", "2")
    said = read_statement(envelope.payload)
    assert isinstance(said, RuleException)
    assert (said.kind, said.waives, said.requested_by, said.max_uses) == ("break_glass", ("scan_missing",), "carol", 2)
    assert moment_ns(said.expires_at) - moment_ns(said.starts_at) == 3600 * 10**9


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("security", "-e", "prod"), "artifact_digest"),
        (("security", "-e", "prod", "--artifact", "latest"), "artifact_digest"),
        (("security", "-e", "prod", "--artifact", DIGEST, "--waive", "x"), "--waive"),
        (("security", "-e", "prod", "--artifact", DIGEST, "--lasts", "long"), "--lasts"),
        (("security", "-e", "prod", "--artifact", DIGEST, "--starts", "soon"), "--starts"),
        (("Security", "-e", "prod", "--artifact", DIGEST), "kind"),
        (("break_glass", "-e", "prod", "--waive", "x", "--as", "carol"), "never for everybody"),
        (("break_glass", "-e", "prod", "--artifact", DIGEST, "--waive", "x"), "--as NAME"),
        (("break_glass", "-e", "prod", "--artifact", DIGEST, "--as", "carol"), "--waive CODE"),
        ((*BREAK_GLASS, "--commit", COMMIT), "--commit"),
        ((*BREAK_GLASS, "--uses", "0"), "--uses"),
        (("override", *BREAK_GLASS[1:], "--waive", "other"), "one rule"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_option(cli, folder, arguments, word):
    done = cli("approvals", "request", *arguments, "-r", "why", "-o", str(folder / "object.json"))
    assert done.exit_code == 2
    assert word in done.stderr
    assert not (folder / "object.json").exists()


def test_nothing_is_overwritten(cli, folder, made):
    made(*BREAK_GLASS)
    done = cli("approvals", "request", *BREAK_GLASS, "-r", "why", "-o", str(folder / "object.json"))
    assert done.exit_code == 2
    assert "there already" in done.stderr


def test_others_add_their_signatures_to_the_file(cli, folder, made):
    name, _ = made(*BREAK_GLASS)
    file = folder / "object.json"
    done = cli("approvals", "sign", str(file), "--key", str(folder / "alice.pem"), "--yes")
    assert (done.exit_code, done.stdout.strip()) == (0, name)
    assert "waives: scan_missing" in done.stderr
    assert cli("approvals", "sign", str(file), "--key", str(folder / "bob.pem"), "--yes").exit_code == 0
    everybody = public("alice") | public("bob") | public("carol")
    assert read_envelope(file.read_text()).signers(everybody) == set(everybody)
    done = cli("approvals", "sign", str(file), "--key", str(folder / "alice.pem"), stdin="n\n")
    assert done.exit_code == 1


def test_another_program_signs(cli, folder, made):
    made(*BREAK_GLASS)
    file, data, signature = folder / "object.json", folder / "bytes", folder / "sig"
    assert cli("approvals", "sign", str(file), "--to-sign", str(data)).exit_code == 0
    key = str(folder / "alice.pem")
    subprocess.run(["openssl", "dgst", "-sha256", "-sign", key, "-out", str(signature), str(data)], check=True)
    attach = ("approvals", "sign", str(file), "--yes", "--signature", str(signature), "--public-key")
    assert cli(*attach, str(folder / "alice.pub")).exit_code == 0
    assert set(public("alice")) < read_envelope(file.read_text()).signers(public("alice") | public("carol"))
    done = cli(*attach, str(folder / "carol.pub"))
    assert done.exit_code == 2
    assert "is not the signature" in done.stderr


def test_a_key_with_a_passphrase(cli, folder, made):
    made(*BREAK_GLASS)
    path = folder / "locked.pem"
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:right", "-in", str(folder / "alice.pem")]
    command += ["-out", str(path)]
    subprocess.run(command, check=True)
    sign = ("approvals", "sign", str(folder / "object.json"), "--key", str(path), "--yes")
    done = cli(*sign, stdin="wrong\n")
    assert done.exit_code == 1
    assert "wrong" not in done.stderr.replace("wrong passphrase", "")
    assert cli(*sign, stdin="right\n").exit_code == 0


@pytest.mark.parametrize("content", ["", "no key", public_pem("alice")])
def test_what_is_no_private_key(cli, folder, made, content):
    made(*BREAK_GLASS)
    (folder / "bad.pem").write_text(content)
    done = cli("approvals", "sign", str(folder / "object.json"), "--key", str(folder / "bad.pem"), "--yes")
    assert done.exit_code == 1
    assert "no PEM private key" in done.stderr


def test_a_file_that_is_no_object(cli, folder):
    (folder / "x.json").write_text(json.dumps({"payload": "", "payloadType": "text/plain", "signatures": []}))
    done = cli("approvals", "sign", str(folder / "x.json"), "--key", str(folder / "alice.pem"), "--yes")
    assert done.exit_code == 2
    assert "payloadType" in done.stderr


def test_revocations_and_reviews_for_a_folder(cli, folder):
    for command in (("revoke", DIGEST, "--yes"), ("review", DIGEST, "--verdict", "unjustified")):
        path = folder / f"{command[0]}.json"
        done = cli("approvals", *command, "-r", "why", "--key", str(folder / "alice.pem"), "-o", str(path))
        assert done.exit_code == 0, done.stderr
        envelope = read_envelope(path.read_text())
        assert read_statement(envelope.payload).object == DIGEST
        assert envelope.signers(public("alice"))
    done = cli("approvals", "review", DIGEST, "--verdict", "fine", "-r", "why")
    assert done.exit_code == 2


def settings(folder: Path, people: object, **approvals: object) -> Path:
    (folder / "approvers.yaml").write_text(yaml.safe_dump(people))
    (folder / "approvers.yaml").chmod(0o644)
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump({"approvals": {"people": str(folder / "approvers.yaml")} | approvals}))
    return path


def test_check_config_reads_the_approvers(cli, folder, state):
    state.chmod(0o700)
    good = {"version": 1, "people": {"alice": {"key_files": ["alice.pub"]}}}
    done = cli("check-config", "-c", str(settings(folder, good)), "--strict")
    assert (done.exit_code, done.stderr) == (0, "")
    bad = {"version": 1, "people": {"alice": {"key_files": ["none.pub"]}}}
    done = cli("check-config", "-c", str(settings(folder, bad)))
    assert done.exit_code == 1
    assert "none.pub" in done.stderr


def test_check_config_warns_about_approvals(cli, folder, state):
    issuer = {"issuer": IDP, "audience": "https://ci.example"}
    path = settings(folder, {"version": 1, "people": {}}, issuers=[issuer], review_seconds=0)
    content = yaml.safe_load(path.read_text()) | {"callers": [issuer | {"require": {"sub": "x"}}]}
    path.write_text(yaml.safe_dump(content))
    (folder / "approvers.yaml").chmod(0o666)
    done = cli("check-config", "-c", str(path), "--strict")
    assert done.exit_code == 1
    for words in ("approvals.issuers.0.audience", "approvals.review_seconds", "approvals.people"):
        assert words in done.stderr


def test_the_settings_refuse_what_would_be_for_nobody(cli, tmp_path, state):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump({"approvals": {"objects": ["signed"]}}))
    done = cli("check-config", "-c", str(path))
    assert done.exit_code == 1
    assert "need people" in done.stderr
    path.write_text(yaml.safe_dump({"approvals": {"people": "a", "break_glass_approvers": 1}}))
    assert "break_glass_approvers" in cli("check-config", "-c", str(path)).stderr
