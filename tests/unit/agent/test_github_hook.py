"""`orchestrator-github-hook` against servers on loopback: what it asks, how long, and what it makes of the answers."""

from __future__ import annotations

import datetime as dt
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.agent import github_hook

TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
NAMED = {"job_id": "forge.slot.1", "name": "build", "traceparent": TRACE}
TOKEN = "aaa.bbb.ccc"

Answer = tuple[int, dict[str, str], Any]


@dataclass
class Server:
    """Answers in turn, the last one for ever, and keeps what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    tunnels: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""
    port: int = 0


def serve(server: Server, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_CONNECT(self) -> None:
            server.tunnels.append((self.path, self.headers.get("Proxy-Authorization", "")))
            host, port = self.path.split(":")
            assert host == "localhost"
            self.send_response(200)
            self.end_headers()
            with socket.create_connection(("127.0.0.1", int(port))) as onward:
                pump(self.connection, onward)

        def answer(self, body: Any) -> None:
            server.asked.append((self.command, self.path, dict(self.headers), body))
            status, headers, document = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    server.port = made.server_address[1]
    server.url = f"http://127.0.0.1:{server.port}"
    if context is not None:
        made.socket = context.wrap_socket(made.socket, server_side=True)
        server.url = f"https://localhost:{server.port}"
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    return made


def pump(one: socket.socket, other: socket.socket) -> None:
    ends = {one: other, other: one}
    while True:
        for ready in select.select(list(ends), [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            ends[ready].sendall(data)


@pytest.fixture
def running() -> Iterator[Any]:
    made: list[ThreadingHTTPServer] = []

    def start(*answers: Answer, context: ssl.SSLContext | None = None) -> Server:
        server = Server(list(answers))
        made.append(serve(server, context))
        return server

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


@pytest.fixture
def job(tmp_path, monkeypatch) -> Path:
    """The environment of a job; the file of variables for later steps."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("the-runner\n")
    variables = {
        "ORCHESTRATOR_TOKEN_FILE": str(tmp_path / "token"), "ORCHESTRATOR_AUDIENCE": "https://us.example/?a=b",
        "GITHUB_RUN_ID": "9001", "GITHUB_RUN_ATTEMPT": "2", "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_ENV": str(tmp_path / "env"),
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(github_hook, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(github_hook, "LONGEST_PAUSE", 0.02)
    return tmp_path / "env"


def started(server: Server, monkeypatch) -> int:
    monkeypatch.setenv("ORCHESTRATOR_JOB_URL", server.url + "/runner/v1/job")
    return github_hook.main(["job-started"])


def test_a_named_job_goes_on_with_its_trace(job, running, monkeypatch, capsys):
    api = running((200, {}, NAMED))
    job.write_text("BEFORE=1\n")
    assert started(api, monkeypatch) == 0
    assert job.read_text() == f"BEFORE=1\nTRACEPARENT={TRACE}\nORCHESTRATOR_JOB_ID=forge.slot.1\n"
    ((method, path, headers, body),) = api.asked
    assert (method, path, headers["Authorization"]) == ("POST", "/runner/v1/job", "Bearer the-runner")
    assert body == {"run_id": "9001", "run_attempt": "2", "repository": "acme/shop"}
    assert capsys.readouterr().out == f"job forge.slot.1, trace {'ab' * 16}\n"


def test_each_report_brings_a_token_of_its_own(job, running, monkeypatch, capsys):
    platform = running((200, {}, {"value": "a.b.1"}), (200, {}, {"value": "a.b.2"}))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", platform.url + "/token?x=1")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ask-me")
    api = running((204, {}, b""), (200, {}, NAMED))
    assert started(api, monkeypatch) == 0
    assert [body["token"] for *_, body in api.asked] == ["a.b.1", "a.b.2"]
    _, path, headers, _ = platform.asked[0]
    assert path == "/token?x=1&audience=https%3A%2F%2Fus.example%2F%3Fa%3Db"
    assert headers["Authorization"] == "Bearer ask-me"
    assert capsys.readouterr().out.startswith("::add-mask::a.b.1\n::add-mask::a.b.2\n")


@pytest.mark.parametrize("answer", [(500, {}, {}), (200, {}, {"value": "no token"}), (200, {}, b"["), (302, {}, {})])
def test_a_platform_without_a_token_is_said_and_the_job_is_reported_without(job, running, monkeypatch, capsys, answer):
    platform, api = running(answer), running((200, {}, NAMED))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", platform.url)
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ask-me")
    assert started(api, monkeypatch) == 0
    assert "token" not in api.asked[0][3]
    assert len(platform.asked) == 3
    assert capsys.readouterr().out.startswith("::warning title=orchestrator::GitHub gave no token for this job: status")


def test_the_token_is_asked_for_through_the_proxy(job, running, monkeypatch):
    proxy, api = running((200, {}, {"value": TOKEN})), running((200, {}, NAMED))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://token.forge.test:8080/token?x=1")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ask-me")
    monkeypatch.setenv("http_proxy", f"http://runner:a%2Fb@127.0.0.1:{proxy.port}")
    assert started(api, monkeypatch) == 0  # and the runner API is never asked through one
    ((_, path, headers, _),) = proxy.asked
    assert path.startswith("http://token.forge.test:8080/token?x=1&audience=")
    assert headers["Host"] == "token.forge.test:8080"
    assert headers["Proxy-Authorization"] == "Basic cnVubmVyOmEvYg=="
    assert api.asked[0][3]["token"] == TOKEN


def test_the_token_is_asked_for_by_tls_through_the_proxy(job, running, monkeypatch, tmp_path):
    context = certificate(tmp_path)
    platform = running((200, {}, {"value": TOKEN}), context=context)
    proxy, api = running((500, {}, {})), running((200, {}, NAMED))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", platform.url + "/token?x=1")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ask-me")
    monkeypatch.setenv("HTTPS_PROXY", f"http://runner:secret@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,ocalhost")
    assert started(api, monkeypatch) == 0
    assert proxy.tunnels == [(f"localhost:{platform.port}", "Basic cnVubmVyOnNlY3JldA==")]
    assert "Proxy-Authorization" not in platform.asked[0][2]
    assert api.asked[0][3]["token"] == TOKEN


def certificate(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(minutes=1)).not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(pem + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("proxies", "direct", "url", "used"),
    [
        ({"https_proxy": "http://p:1"}, "", "https://a.test/", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "", "http://a.test/", ""),
        ({"HTTPS_PROXY": "http://p:2"}, "b.test", "https://a.test/", "http://p:2"),
        ({"HTTPS_PROXY": "http://p:2"}, "b.test, .test", "https://a.test/", ""),
        ({"HTTPS_PROXY": "http://p:2"}, "est", "https://a.test/", "http://p:2"),
        ({"HTTPS_PROXY": "http://p:2"}, "a.test", "https://a.test:8/", ""),
        ({}, "", "https://a.test/", ""),
    ],
)
def test_which_proxy(job, monkeypatch, proxies, direct, url, used):
    for name, value in {**proxies, "no_proxy": direct}.items():
        monkeypatch.setenv(name, value)
    assert github_hook.proxy_for(url) == used


def test_policys_reasons_stand_in_the_log_one_by_one(job, running, monkeypatch, capsys):
    reasons = [{"code": "prod_only", "message": "50% of it:\nonly main, no fork"}, {"code": "b", "message": "and b"}]
    api = running((403, {}, {"reason": "policy_denied", "detail": "x", "reasons": reasons}))
    assert started(api, monkeypatch) == 1
    assert capsys.readouterr().out == (
        "::error title=denied by policy::50%25 of it:%0Aonly main, no fork [prod_only]\n"
        "::error title=denied by policy::and b [b]\n"
    )
    assert len(api.asked) == 1
    assert not job.exists()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_another_refusal_is_final_too(job, running, monkeypatch, capsys, status):
    api = running((status, {}, {"reason": "job_already_named", "detail": "another runner has it"}))
    assert started(api, monkeypatch) == 1
    said = "::error title=no identity for this job::another runner has it [job_already_named]\n"
    assert capsys.readouterr().out == said
    assert len(api.asked) == 1


@pytest.mark.parametrize("document", [b"", b"<html>", [], {"reasons": "x"}, {"reasons": [1]}])
def test_a_refusal_that_cannot_be_read_is_one(job, running, monkeypatch, capsys, document):
    assert started(running((403, {}, document)), monkeypatch) == 1
    assert capsys.readouterr().out == "::error title=no identity for this job::refused []\n"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(job, running, monkeypatch, status):
    api = running((status, {"Retry-After": "0"}, {"reason": "journal_unavailable"}), (204, {}, b""), (200, {}, NAMED))
    assert started(api, monkeypatch) == 0
    assert len(api.asked) == 3


def test_a_job_that_nobody_names_fails(job, running, monkeypatch, capsys):
    monkeypatch.setattr(github_hook, "LIMIT_SECONDS", 0.1)
    api = running((204, {}, b""))
    assert started(api, monkeypatch) == 1
    assert len(api.asked) > 1
    assert "nothing was decided within 0.1 s: it is not known yet which job this is" in capsys.readouterr().out
    assert not job.exists()


def test_a_wish_beyond_the_limit_is_not_waited_for(job, running, monkeypatch, capsys):
    monkeypatch.setattr(github_hook, "LIMIT_SECONDS", 5)
    assert started(running((503, {"Retry-After": "600"}, {"reason": "draining"})), monkeypatch) == 1
    assert "503 draining" in capsys.readouterr().out


def test_a_daemon_that_is_away_fails_the_job_in_the_end(job, running, monkeypatch, capsys):
    monkeypatch.setattr(github_hook, "LIMIT_SECONDS", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert started(Server(url=f"http://127.0.0.1:{closed.getsockname()[1]}"), monkeypatch) == 1
    assert "Connection refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer",
    [
        {**NAMED, "job_id": "a\nPATH=/tmp"},
        {**NAMED, "traceparent": TRACE + "\nX=1"},
        {**NAMED, "job_id": 1},
        {"job_id": "a"},
        b"[]",
        b"x" * ((1 << 20) + 1),
    ],
)
def test_an_answer_that_is_none_writes_nothing(job, running, monkeypatch, capsys, answer):
    monkeypatch.setattr(github_hook, "LIMIT_SECONDS", 0.05)
    assert started(running((200, {}, answer)), monkeypatch) == 1
    assert "::error title=no identity for this job::" in capsys.readouterr().out
    assert not job.exists()


@pytest.mark.parametrize("missing", ["GITHUB_RUN_ID", "ORCHESTRATOR_TOKEN_FILE", "GITHUB_ENV"])
def test_a_place_that_is_no_job_fails(job, running, monkeypatch, capsys, missing):
    monkeypatch.delenv(missing)
    assert started(running((200, {}, NAMED)), monkeypatch) == 1
    assert f"KeyError: '{missing}'" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["job-completed"], ["job-started", "x"]])
def test_a_wrong_call_is_told(arguments, capsys):
    assert github_hook.main(arguments) == 2
    assert "usage" in capsys.readouterr().err
