"""The subcommands of `orchestrator-token`, with a runner API and parties that answer as they are told.

What real parties and the clouds' own libraries make of them is in `tests/interop`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.agent
from orchestrator.agent.tokens import aws, files, gcp, variables
from orchestrator.agent.tokens.main import COMMANDS, main

ROLE = "arn:aws:iam::123456789012:role/app-release"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/runners/providers/prod"
CLIENT, TENANT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-aaaaaaaaaaaa"
CREDENTIALS = b"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s3cr3t</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Answers:
    """What the server was asked, and what it says next; the last answer of a path is said again."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.says: dict[str, list[tuple[int, bytes, dict[str, str]]]] = {}
        self.changed = threading.Condition()

    def say(self, path: str, *answers: object, status: int = 200, **headers: str) -> None:
        bodies = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in answers]
        self.says.setdefault(path, []).extend((status, body, headers) for body in bodies)

    def form(self, number: int) -> dict[str, str]:
        return {name: value for name, (value,) in parse_qs(self.asked[number][2].decode()).items()}

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.asked) >= count, timeout=20)


@pytest.fixture
def answers() -> Iterator[Answers]:
    found = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with found.changed:
                found.asked.append((self.path, dict(self.headers), body))
                said = found.says.get(self.path) or [(404, b"", {})]
                status, answer, headers = said.pop(0) if len(said) > 1 else said[0]
                found.changed.notify_all()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    found.say("/exchange", {"access_token": "id-token", "expires_in": 300, "token_type": "N_A"})
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def job(answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment of a job's script."""
    (tmp_path / "runner-token").write_text("the runner's\n")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "VAULT_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ORCHESTRATOR_TOKEN_FILE", str(tmp_path / "runner-token"))
    monkeypatch.setenv("ORCHESTRATOR_EXCHANGE_URL", answers.url + "/exchange")
    monkeypatch.setenv("ORCHESTRATOR_JOB_ID", "dispatch.release.1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


def test_the_command_without_a_subcommand_is_as_it_was(job, answers, capsys):
    assert main(["--audience", "cloud"]) == 0
    assert capsys.readouterr().out == "id-token\n"
    assert main(["--audience", "cloud", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"access_token": "id-token", "expires_in": 300, "token_type": "N_A"}
    assert answers.form(0) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "the runner's",
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": "cloud",
        "requested_token_type": "urn:ietf:params:oauth:token-type:id_token",
    }


def test_a_role_is_asked_for_as_the_scope(job, answers):
    assert main(["print", "--audience", "cloud", "--role", ROLE]) == 0
    assert answers.form(0)["scope"] == ROLE


def test_a_refusal_is_told_and_has_its_exit_code(job, answers, capsys):
    answers.says["/exchange"] = []
    answers.say("/exchange", {"error": "invalid_scope", "reason": "role_not_mapped", "explanation": "no such role"},
                status=400)  # fmt: skip
    assert main(["aws", "--role", ROLE]) == 1
    assert "400 invalid_scope: role_not_mapped: no such role" in capsys.readouterr().err
    assert len(answers.asked) == 1, "STS was not asked"


DIGEST = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
"""Of `hello`."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--audience", "cloud"],
        ["print", "--audience", "cloud", "--out", "token"],
        ["kubernetes", "--audience", "cloud"],
        ["gcp-answer", "--audience", "cloud"],
        ["env", "aws", "--once", "--role", ROLE],
        ["env", "azure", "--once", "--client-id", CLIENT, "--tenant-id", TENANT],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("by_digest", [True, False], ids=["digest", "file"])
def test_what_is_deployed_is_named_before_a_token_is_asked_for(by_digest, arguments, job, answers, monkeypatch):
    monkeypatch.chdir(job)
    (job / "app").write_text("hello")
    answers.say("/deployment", {"job_id": "dispatch.release.1", "artifact_digest": DIGEST})
    assert main([*arguments, "--artifact", DIGEST if by_digest else "app"]) == 0
    assert [path for path, _, _ in answers.asked] == ["/deployment", "/exchange"]
    _, headers, body = answers.asked[0]
    assert json.loads(body) == {"artifact_digest": DIGEST}
    assert (headers["Authorization"], headers["Content-Type"]) == ("Bearer the runner's", "application/json")


def test_an_artifact_is_named_by_itself(job, answers, capsys):
    (job / "app").write_text("hello")
    answers.say("/deployment", {"job_id": "dispatch.release.1", "artifact_digest": DIGEST})
    assert main(["artifact", str(job / "app")]) == 0
    assert capsys.readouterr().out == f"{DIGEST}\n"
    assert [path for path, _, _ in answers.asked] == ["/deployment"]


def test_no_token_is_asked_for_when_another_artifact_was_named(job, answers, capsys):
    answers.say("/deployment", {"reason": "artifact_already_named", "detail": "This job deploys x."}, status=409)
    for arguments in (["--audience", "cloud", "--artifact", DIGEST], ["artifact", DIGEST]):
        assert main(arguments) == 1
        assert "409 artifact_already_named: This job deploys x." in capsys.readouterr().err
    assert {path for path, _, _ in answers.asked} == {"/deployment"}


@pytest.mark.parametrize("given", ["sha256:", DIGEST.upper().replace("SHA", "sha"), DIGEST + "0", "nowhere/app"])
def test_what_is_neither_digest_nor_file_is_told(given, job, answers, capsys):
    assert main(["--audience", "cloud", "--artifact", given]) == 2
    assert given[:20] in capsys.readouterr().err
    assert answers.asked == []


@pytest.mark.parametrize("arguments", [["--audience", "x"], ["aws", "--role", ROLE], ["env", "aws", "--role", ROLE]])
def test_outside_a_job_it_says_so(arguments, monkeypatch, capsys):
    monkeypatch.delenv("ORCHESTRATOR_TOKEN_FILE", raising=False)
    assert main(arguments) == 2
    assert "no job's script" in capsys.readouterr().err


def test_a_file_is_written_whole_and_for_this_user_only(job, capsys):
    path = job / "token"
    path.write_text("older")
    path.chmod(0o644)
    assert main(["--audience", "cloud", "--out", str(path)]) == 0
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("id-token", 0o600)
    assert capsys.readouterr().out == ""
    assert sorted(entry.name for entry in job.iterdir()) == ["runner-token", "token"]


@pytest.mark.parametrize(("name", "why"), [("none/token", "No such file"), ("", "directory")])
def test_a_file_that_cannot_be_written_is_named_as_asked_for(job, tmp_path, capsys, name, why):
    path = tmp_path / "folder" / name
    (tmp_path / "folder").mkdir()
    assert main(["--audience", "cloud", "--out", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"orchestrator-token: {path} cannot be written: ")
    assert why in said
    assert ".tmp" not in said
    assert [one.name for one in tmp_path.iterdir() if one.suffix == ".tmp"] == []


def test_a_watched_file_is_kept_fresh_until_asking_is_refused(job, answers):
    """As a process, whose end and whose closed output do not wait for the one in the background."""
    path = job / "token"
    answers.says["/exchange"] = []
    answers.say("/exchange", *({"access_token": f"t{number}", "expires_in": 1} for number in range(2)))
    answers.say("/exchange", {"error": "temporarily_unavailable"}, status=503)
    answers.say("/exchange", {"access_token": "t3", "expires_in": 1})
    answers.say("/exchange", {"error": "invalid_request", "reason": "job_ended"}, status=400)
    command = Path(orchestrator.agent.__file__).with_name("token.py")
    (job / "lib").mkdir()
    (job / "bin").mkdir()
    (job / "lib/tokens").symlink_to(command.with_name("tokens"))
    (job / "bin/orchestrator-token").write_bytes(command.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", str(job / "bin/orchestrator-token"), "--audience", "a", "--out", str(path), "--watch"],
        capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    answers.wait_for(5)
    deadline = time.monotonic() + 20
    while not Path(f"{path}.refused").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert Path(f"{path}.refused").read_text() == "400 invalid_request: job_ended\n"
    assert path.read_text() == "t3"


def test_the_pause_leaves_a_third_of_the_life():
    assert (files.pause(300), files.pause(0)) == (200, files.SHORTEST_PAUSE_SECONDS)


def test_a_private_folder_of_somebody_else_is_not_used(job):
    mine = Path(files.own_file("a"))
    assert stat.S_IMODE(mine.parent.stat().st_mode) == 0o700
    assert files.own_file("a") == str(mine) != files.own_file("b")
    mine.parent.chmod(0o777)
    with pytest.raises(OSError, match="not a folder of this user alone"):
        files.own_file("a")


def test_aws_credentials_for_a_credential_process(job, answers, capsys):
    answers.say("/sts", CREDENTIALS)
    assert main(["aws", "--role", ROLE, "--endpoint", answers.url + "/sts"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "s3cr3t", "SessionToken": "session",
        "Expiration": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    assert answers.form(0)["scope"] == ROLE
    assert answers.form(1) == {
        "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE,
        "RoleSessionName": "dispatch.release.1", "DurationSeconds": "900", "WebIdentityToken": "id-token",
    }  # fmt: skip


def test_the_role_that_the_trust_map_chose_is_used(job, answers, capsys):
    answers.says["/exchange"] = []
    answers.say("/exchange", {"access_token": "id-token", "expires_in": 300, "scope": ROLE})
    answers.say("/sts", CREDENTIALS)
    assert main(["aws", "--endpoint", answers.url + "/sts"]) == 0
    assert answers.form(1)["RoleArn"] == ROLE


def test_a_role_that_no_trust_map_knows_is_not_asked_for(job, answers):
    answers.say("/sts", CREDENTIALS)
    assert main(["aws", "--role", ROLE, "--unmapped", "--endpoint", answers.url + "/sts"]) == 0
    assert "scope" not in answers.form(0)
    assert answers.form(1)["RoleArn"] == ROLE


def test_without_any_role_nothing_is_asked_of_aws(job, answers, capsys):
    assert main(["aws", "--endpoint", answers.url + "/sts"]) == 2
    assert "give --role" in capsys.readouterr().err
    assert len(answers.asked) == 1


def test_what_sts_refuses_is_told_with_a_fix(job, answers, capsys):
    answers.say(
        "/sts", b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized</Message></Error>"
        b"</ErrorResponse>", status=403,
    )  # fmt: skip
    assert main(["aws", "--role", ROLE, "--endpoint", answers.url + "/sts"]) == 1
    told = capsys.readouterr().err
    assert "AccessDenied: Not authorized" in told
    assert "orchestrator trust recipe" in told
    assert "id-token" not in told
    assert len(answers.asked) == 2


def test_what_passes_is_tried_again(job, answers, monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    answers.say("/sts", b"<E><Code>IDPCommunicationError</Code></E>", status=400)
    answers.say("/sts", b"", status=503)
    answers.say("/sts", CREDENTIALS)
    assert main(["aws", "--role", ROLE, "--endpoint", answers.url + "/sts"]) == 0
    assert (len(answers.asked), waited) == (4, [1, 2])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        (b"nonsense", "no XML"),
        (b"<a/>", "no credentials"),
        (b"<a>" + b" " * (1 << 20) + b"</a>", "too long"),
    ],
)
def test_an_unusable_answer_of_sts_is_refused(job, answers, capsys, body, told):
    answers.say("/sts", body)
    assert main(["aws", "--role", ROLE, "--endpoint", answers.url + "/sts"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["aws", "--role", "app-release"], "no role"),
        (["aws", "--role", ROLE, "--region", "here"], "no region"),
        (["aws", "--role", ROLE, "--session-seconds", "60"], "900 to 43200"),
        (["aws", "--role", ROLE, "--endpoint", "http://sts.example/"], "in clear"),
        (["aws", "--role", ROLE, "--endpoint", "ftp://sts.example/"], "no http"),
        (["aws", "--role", ROLE, "--endpoint", "https://me:hidden@sts.example/"], "holds a user"),
        (["gcp", "--provider", "runners"], "no provider"),
        (["gcp", "--provider", PROVIDER, "--service-account", "me@example.com"], "no service account"),
        (["gcp", "--provider", PROVIDER, "--session-seconds", "900"], "of a service account"),
        (["gcp", "--provider", PROVIDER, "--audience", "two words"], "--token-file"),
        (["env", "azure", "--client-id", "me", "--tenant-id", TENANT], "no client id"),
        (["env", "azure", "--client-id", CLIENT, "--tenant-id", "a b"], "no tenant"),
        (["env", "nowhere"], "aws, gcp, azure"),
        (["env"], "aws, gcp, azure"),
        (["vault", "--audience", "v", "--role", "r"], "VAULT_ADDR"),
        (["vault", "--audience", "v", "--role", "r", "--address", "http://127.0.0.1:1", "--mount", "../x"], "no path"),
    ],
)
def test_bad_arguments_are_told_with_what_is_right(job, capsys, arguments, told):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "hidden" not in said


def test_a_token_is_not_sent_on_by_a_redirect(job, answers, capsys):
    answers.say("/sts", b"", status=307, Location=answers.url + "/elsewhere")
    assert main(["aws", "--role", ROLE, "--endpoint", answers.url + "/sts"]) == 1
    assert [path for path, _, _ in answers.asked] == ["/exchange", "/sts"]


def test_parties_outside_are_asked_by_the_jobs_proxy_with_its_credential(job, answers, monkeypatch):
    monkeypatch.setenv("http_proxy", answers.url.replace("//", "//runner:pass@"))
    answers.say("http://sts.example:8080/", CREDENTIALS)
    assert main(["aws", "--role", ROLE, "--endpoint", "http://sts.example:8080/", "--allow-http"]) == 0
    assert [path for path, _, _ in answers.asked] == ["/exchange", "http://sts.example:8080/"]
    assert answers.asked[1][1]["Proxy-Authorization"] == "Basic cnVubmVyOnBhc3M="
    assert "Proxy-Authorization" not in answers.asked[0][1], "the exchange is asked directly"


def test_an_answer_that_is_no_http_is_an_error_like_another(job, answers, capsys):
    answers.say("/v1/auth/jwt/login", {"auth": {"client_token": "s.1"}}, X_Long="x" * 70_000)
    login = ["vault", "--audience", "vault", "--role", "r", "--address", answers.url]
    assert main(login) == 2
    assert "the answer was cut: LineTooLong" in capsys.readouterr().err
    answers.says["/exchange"].clear()
    answers.say("/exchange", {"access_token": "id-token"}, X_Long="x" * 70_000)
    assert main(login) == 2
    assert "the runner API's answer was cut: LineTooLong" in capsys.readouterr().err


def test_the_regions_endpoint(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS"):
        monkeypatch.delenv(name, raising=False)
    assert aws.endpoint("") == "https://sts.amazonaws.com"
    assert aws.endpoint("eu-central-1") == "https://sts.eu-central-1.amazonaws.com"
    assert aws.endpoint("cn-north-1") == "https://sts.cn-north-1.amazonaws.com.cn"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    assert aws.endpoint("") == "https://sts.us-gov-west-1.amazonaws.com"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    assert aws.endpoint("eu-central-1") == "http://127.0.0.1:1"


@given(st.text(min_size=1, max_size=300))
def test_a_session_is_named_for_its_job_in_letters_that_aws_takes(job_id):
    name = aws.session_name(job_id)
    assert aws._SESSION_NAME.fullmatch(name)
    assert name == job_id or aws.session_name(job_id + "x") != name


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60))
def test_variables_are_one_word_to_a_shell(value):
    done = subprocess.run(
        ["/bin/sh", "-c", f"X={variables.quoted(value)}; printf %s \"$X\""], capture_output=True, check=True
    )  # fmt: skip
    assert done.stdout.decode() == value


def test_env_aws_is_what_the_sdks_read(job, answers, capsys):
    assert main(["env", "aws", "--role", ROLE, "--once", "--token-file", "token"]) == 0
    path = Path("token").resolve()
    try:
        assert capsys.readouterr().out == (
            f"export AWS_WEB_IDENTITY_TOKEN_FILE='{path}'\nexport AWS_ROLE_ARN='{ROLE}'\n"
            "export AWS_ROLE_SESSION_NAME='dispatch.release.1'\n"
        )
        assert path.read_text() == "id-token"
    finally:
        path.unlink()


def test_env_azure_is_what_the_libraries_read(job, answers, capsys):
    arguments = ["env", "azure", "--client-id", CLIENT, "--tenant-id", TENANT, "--once", "--token-file", str(job / "t")]
    assert main([*arguments, "--authority-host", "https://login.example"]) == 0
    assert capsys.readouterr().out == (
        f"export AZURE_FEDERATED_TOKEN_FILE='{job / 't'}'\nexport AZURE_CLIENT_ID='{CLIENT}'\n"
        f"export AZURE_TENANT_ID='{TENANT}'\nexport AZURE_AUTHORITY_HOST='https://login.example'\n"
    )
    assert answers.form(0)["audience"] == "api://AzureADTokenExchange"


def test_the_external_account_of_gcp(job, answers, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/run/orchestrator/bin/orchestrator-token"])
    account = "deployer@shop.iam.gserviceaccount.com"
    assert main(["gcp", "--provider", PROVIDER, "--service-account", account, "--session-seconds", "900"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["audience"] == f"//iam.googleapis.com/{PROVIDER}"
    assert found["credential_source"]["executable"]["command"] == (
        f"/run/orchestrator/bin/orchestrator-token gcp-answer --audience https://iam.googleapis.com/{PROVIDER}"
    )
    assert found["service_account_impersonation_url"].endswith(f"/{account}:generateAccessToken")
    assert found["service_account_impersonation"] == {"token_lifetime_seconds": 900}
    assert answers.asked == [], "nothing is asked before the library asks"
    assert main(["gcp", "--provider", "//iam.googleapis.com/" + PROVIDER, "--token-file", str(job / "t")]) == 0
    source = json.loads(capsys.readouterr().out)["credential_source"]
    assert source == {"file": str(job / "t"), "format": {"type": "text"}}
    assert answers.form(0)["audience"] == f"https://iam.googleapis.com/{PROVIDER}"
    assert main(["env", "gcp", "--provider", PROVIDER]) == 0
    lines = dict(line.removeprefix("export ").split("=") for line in capsys.readouterr().out.splitlines())
    assert lines[gcp.ALLOWED] == "'1'"
    assert (
        json.loads(Path(lines["GOOGLE_APPLICATION_CREDENTIALS"].strip("'")).read_text())["type"] == "external_account"
    )


def test_the_answers_of_an_executable_source(job, answers, capsys):
    assert main(["gcp-answer", "--audience", "a"]) == 0
    good = json.loads(capsys.readouterr().out)
    assert good.pop("expiration_time") > time.time() + 250
    assert good == {"version": 1, "success": True, "token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "id_token": "id-token"}  # fmt: skip
    answers.says["/exchange"] = []
    answers.say("/exchange", {"error": "invalid_target", "reason": "policy_deny"}, status=400)
    assert main(["gcp-answer", "--audience", "a"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": 1, "success": False, "code": "400", "message": "400 invalid_target: policy_deny",
    }  # fmt: skip


def test_a_credential_for_kubectl(job, capsys):
    assert main(["kubernetes", "--audience", "https://cluster.example"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["apiVersion"], found["kind"]) == ("client.authentication.k8s.io/v1", "ExecCredential")
    assert found["status"]["token"] == "id-token"
    assert found["status"]["expirationTimestamp"].endswith("Z")


def test_a_login_at_vault(job, answers, capsys):
    answers.say("/v1/auth/ci/jwt/login", {"auth": {"client_token": "hvs.x", "lease_duration": 300}})
    arguments = ["vault", "--audience", "v", "--role", "shop", "--address", answers.url + "/", "--mount", "ci/jwt"]
    assert main([*arguments, "--namespace", "team"]) == 0
    assert capsys.readouterr().out == "hvs.x\n"
    path, headers, body = answers.asked[1]
    assert (path, json.loads(body)) == ("/v1/auth/ci/jwt/login", {"role": "shop", "jwt": "id-token"})
    assert (headers["X-Vault-Namespace"], headers["X-Vault-Request"]) == ("team", "true")
    answers.says["/v1/auth/ci/jwt/login"] = []
    answers.say("/v1/auth/ci/jwt/login", {"errors": ['claim "environment" does not match']}, status=400)
    assert main(arguments) == 1
    assert 'claim "environment" does not match' in capsys.readouterr().err


def test_an_exchange_elsewhere(job, answers, capsys):
    answers.say("/token", {"access_token": "theirs", "issued_token_type": "x", "token_type": "Bearer"})
    arguments = ["rfc8693", "--audience", "https://sts.example", "--endpoint", answers.url + "/token"]
    assert main([*arguments, "--for", "api", "--scope", "read write", "--client-id", "ci"]) == 0
    assert capsys.readouterr().out == "theirs\n"
    assert answers.form(1) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "id-token",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "audience": "api", "scope": "read write",
        "client_id": "ci",
    }  # fmt: skip
    answers.says["/token"] = []
    answers.say("/token", {"error": "invalid_target"}, status=400)
    assert main(arguments) == 1
    assert "invalid_target" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["print", "aws", "gcp", "kubernetes", "vault", "rfc8693", "env aws", "env gcp"])
def test_each_subcommand_has_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: orchestrator-token " + name in capsys.readouterr().out


def test_the_overview_names_each_subcommand(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert [name for name in COMMANDS if f"  {name} " not in said] == ["gcp-answer"], "that one is for libraries"


def test_starting_loads_nothing_that_a_plain_token_does_not_need():
    """Each of these would cost milliseconds at every use."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import tokens.main; "
        "print(sorted({'asyncio', 'subprocess', 'xml.etree.ElementTree', 'tokens.aws', 'tokens.commands', 'typing',"
        " 'tokens.outside', 'dataclasses'} & set(sys.modules)))"
    )
    folder = Path(orchestrator.agent.__file__).parent
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(folder)], capture_output=True, check=True,
                          env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    assert done.stdout.strip() == b"[]"
