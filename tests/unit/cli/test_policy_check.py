"""`orchestrator policy check`: what a person reads, what a pull request shows, exit codes a pipeline can gate on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from orchestrator.server.policy.shapes import CheckRequest, CheckView

DIGEST = "sha256:" + "ab" * 32
ALLOWED = {
    "allowed": True,
    "verdict": "allow",
    "environment": "prod",
    "artifact_digest": DIGEST,
    "reasons": [],
    "observed": [],
    "waivers": [],
    "decision_id": "d-1",
    "input_digest": DIGEST,
    "bundle_digest": DIGEST,
    "engine": "regorus",
}
DENIED = ALLOWED | {
    "allowed": False,
    "verdict": "deny",
    "reasons": [{"code": "scan_stale", "message": "input.artifact.scans is old, expected a day: scan 100%, again"}],
    "observed": [{"code": "ticket_missing", "message": "name a ticket"}],
    "waivers": [{"exception": DIGEST, "codes": ["sbom_missing"]}],
}


@pytest.fixture
def answered(local_daemon):
    def answer(document):
        CheckView.model_validate(document)
        local_daemon.checked = document
        return local_daemon

    return answer


def test_an_answer_that_allows(cli, answered):
    daemon = answered(ALLOWED)
    done = cli("policy", "check", "--environment", "prod", "--artifact", DIGEST)
    assert done.exit_code == 0, done.stderr
    assert f"{DIGEST} into prod: allowed" in done.stdout
    assert daemon.bodies == [{"environment": "prod", "artifact_digest": DIGEST}]


def test_an_answer_that_does_not(cli, answered):
    answered(DENIED)
    done = cli("policy", "check", "--environment", "prod")
    assert done.exit_code == 1
    assert "not allowed" in done.stdout
    assert "[scan_stale] input.artifact.scans is old" in done.stdout
    assert "only watched for now" in done.stdout
    assert f"would use the exception {DIGEST}, which sets aside: sbom_missing" in done.stdout


def test_as_json_it_is_the_answer(cli, answered):
    answered(DENIED)
    done = cli("policy", "check", "--environment", "prod", "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, DENIED)


def test_as_annotations_no_text_can_begin_a_command(cli, answered):
    hostile = [{"code": "x", "message": "a\n::set-env name=PATH::evil\r\n, b: 100%"}]
    answered(DENIED | {"reasons": hostile})
    done = cli("policy", "check", "--environment", "prod", "--format", "github")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "::error title=policy%3A x::a%0A::set-env name=PATH::evil%0D%0A, b: 100%25"
    assert lines[1] == "::warning title=policy%2C watched only%3A ticket_missing::name a ticket"
    assert lines[2].startswith("::warning title=policy%3A exception::would use sha256:")
    assert len(lines) == 3
    answered(ALLOWED)
    done = cli("policy", "check", "--environment", "prod", "--format", "github")
    assert done.exit_code == 0
    assert done.stdout.startswith("::notice title=policy::")


def test_what_is_asked_fits_the_schema(cli, answered, tmp_path):
    file = tmp_path / "app.tar"
    file.write_bytes(b"x" * 3_000_000)
    daemon = answered(ALLOWED)
    done = cli(
        "policy", "check", "-e", "prod", "--file", str(file), "--ticket", "SHOP-1", "--pool", "deploy", "--secret", "a",
        "--secret", "b",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    asked = CheckRequest.model_validate(daemon.bodies[0])
    assert asked.artifact_digest == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert (asked.ticket, asked.pool, asked.secrets) == ("SHOP-1", "deploy", ["a", "b"])


def test_policy_that_fails_is_an_error_and_no_denial(cli, answered):
    answered(DENIED | {"verdict": "error", "reasons": [{"code": "policy_error", "message": "no answer in time"}]})
    assert cli("policy", "check", "--environment", "prod").exit_code == 2
    answered(DENIED | {"verdict": "undefined"})
    assert cli("policy", "check", "--environment", "prod").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--environment"),
        (("--environment", "prod", "--artifact", DIGEST, "--file", "x"), "not both"),
        (("--environment", "prod", "--file", "/nowhere/x"), "cannot be read"),
        (("--environment", "prod", "--artifact", ""), "no digest"),
        (("--environment", "prod", "--artifact", "sha256:3f2a"), "no digest"),
        (("--bundle", "x"), "belong together"),
        (("--input", "x"), "belong together"),
        (("--environment", "prod", "--format", "xml"), "xml"),
    ],
)
def test_a_question_that_makes_no_sense(cli, answered, arguments, said):
    daemon = answered(ALLOWED)
    done = cli("policy", "check", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert daemon.bodies == []


def test_no_daemon_and_an_answer_of_somebody_else_are_no_denial(cli, local_daemon):
    local_daemon.problem = (404, {"reason": "pool_unknown", "detail": "no such pool", "status": 404}, {})
    done = cli("policy", "check", "--environment", "prod")
    assert (done.exit_code, "pool_unknown" in done.stderr) == (2, True)
    local_daemon.problem = (401, {"reason": "token_expired", "detail": "old", "status": 401}, {})
    assert cli("policy", "check", "--environment", "prod").exit_code == 4


class TestOffline:
    @pytest.fixture
    def bundle(self, tmp_path):
        folder = tmp_path / "bundle"
        folder.mkdir()
        (folder / "decision.rego").write_text(
            'package orchestrator\n\ndefault decision := {"allow": false, "reasons": [{"code": "no_rule", "message": '
            '"nothing applies"}]}\n\ndecision := {"allow": true} if input.artifact.signed == true\n'
        )
        (folder / "decision_test.rego").write_text(
            "package orchestrator_test\n\nimport data.orchestrator\n\n"
            'test_allow if orchestrator.decision.allow == true with input as {"artifact": {"signed": true}}\n\n'
            "test_deny if orchestrator.decision.allow == false with input as {}\n"
        )
        return folder

    def ask(self, cli, tmp_path: Path, bundle: Path, document: object, *more: str):
        path = tmp_path / "input.json"
        path.write_text(json.dumps(document))
        return cli("policy", "check", "--bundle", str(bundle), "--input", str(path), *more)

    def test_a_bundle_answers_for_itself(self, cli, tmp_path, bundle):
        request = {"deployment_environment": "prod", "artifact_digest": DIGEST}
        done = self.ask(cli, tmp_path, bundle, {"artifact": {"signed": True}, "request": request})
        assert done.exit_code == 0, done.stderr
        assert f"{DIGEST} into prod: allowed" in done.stdout
        denied = self.ask(cli, tmp_path, bundle, {"artifact": {"signed": 1}}, "--format", "json")
        assert denied.exit_code == 1
        view = CheckView.model_validate(json.loads(denied.stdout))
        assert [one.code for one in view.reasons] == ["no_rule"]
        assert view.bundle_digest.startswith("sha256:")

    def test_a_bundle_that_fails_its_tests_is_an_error(self, cli, tmp_path, bundle):
        (bundle / "decision_test.rego").write_text("package orchestrator_test\n\ntest_no if 1 == 2\n")
        done = self.ask(cli, tmp_path, bundle, {})
        assert (done.exit_code, done.stdout) == (2, "")

    @pytest.mark.parametrize("document", [[], "x", None])
    def test_what_is_no_document_is_an_error(self, cli, tmp_path, bundle, document):
        assert self.ask(cli, tmp_path, bundle, document).exit_code == 2
