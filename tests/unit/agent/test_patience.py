"""What jobs ask of the runner API while a cluster's daemon is being replaced; the clock is the test's."""

from __future__ import annotations

import json
import socket
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestrator.agent.tokens import exchange, report, runner_api
from orchestrator.agent.tokens.artifact import name_artifact
from orchestrator.agent.tokens.runner_api import FIRST_PAUSE, LONGEST_PAUSE, PATIENCE_SECONDS, RefusedError
from orchestrator.testing.ports import free_port

ANSWER = {"access_token": "a.b.c", "expires_in": 600, "predicate_digest": "sha256:d"}
DIGEST = "sha256:" + 64 * "0"


class Clock:
    """Time passes when somebody sleeps; `at_first` happens then, once."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.at_first = lambda: None

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        if not self.slept:
            self.at_first()
        self.slept.append(seconds)


class Handler(BaseHTTPRequestHandler):
    """Answers in its server's next way, and well when there is none left."""

    def do_POST(self) -> None:
        place: Place = self.server.place  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        place.heard.append(f"{self.headers.get('Authorization')} {body}")
        way = place.ways.pop(0) if place.ways else Handler.well
        way(self)

    def well(self) -> None:
        self.say(200, ANSWER)

    def say(self, status: int, document: object, **headers: str) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


Way = Callable[[Handler], None]


def closed(_handler: Handler) -> None:
    """Not a byte comes back."""


def reset(handler: Handler) -> None:
    """As by a host that knows nothing of the connection: closing sends RST (SO_LINGER of 0 s)."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.wfile.close()
    handler.connection.close()


def cut(handler: Handler) -> None:
    """The head is whole, and not all of the body."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"access_token": ')


def cut_chunk(handler: Handler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b'400\r\n{"access_token": ')
    handler.close_connection = True


def not_now(handler: Handler) -> None:
    handler.say(503, {"reason": "journal_unavailable", "detail": "the journal cannot be written"})


class Place:
    """An address where nobody listens until `open`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.ways: list[Way] = []
        self.heard: list[str] = []
        self._server: HTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/runner/v1/artifacts"

    def open(self) -> None:
        self._server = HTTPServer(("127.0.0.1", self.port), Handler)
        self._server.place = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch, tmp_path, place) -> Clock:
    made = Clock()
    token = tmp_path / "token"
    token.write_text("runner")
    monkeypatch.setenv("ORCHESTRATOR_TOKEN_FILE", str(token))
    monkeypatch.setenv("ORCHESTRATOR_EXCHANGE_URL", place.url)
    monkeypatch.setenv("ORCHESTRATOR_ARTIFACTS_URL", place.url)
    monkeypatch.setattr(runner_api, "time", made)
    return made


@pytest.fixture
def cluster(monkeypatch) -> None:
    """Whoever trusts a CA of the runner API's own; TLS itself is tested with the real API."""
    monkeypatch.setattr(runner_api, "trust", lambda: [urllib.request.HTTPHandler()])


def ask_token(_folder) -> None:
    assert exchange.exchange("https://cache.example").token == "a.b.c"


def ask_deployment(_folder) -> None:
    assert name_artifact(DIGEST) == DIGEST


def report_artifact(folder) -> None:
    (folder / "f").write_bytes(b"built")
    assert report.main([str(folder / "f")]) == 0


def report_document(folder) -> None:
    (folder / "d").write_text('{"result": "PASSED"}')
    assert report.main(["attest", DIGEST, "--predicate", str(folder / "d"), "--type", "https://t.example"]) == 0


every_ask = pytest.mark.parametrize("ask", [ask_token, ask_deployment, report_artifact, report_document])


@every_ask
def test_the_next_daemon_is_waited_for_and_shown_the_token_of_now(cluster, clock, place, tmp_path, ask):
    """It is renewed while nobody answers, and what was there before is too old by then."""

    def renewed() -> None:
        (tmp_path / "token").write_text("fresh")
        place.open()

    clock.at_first = renewed
    ask(tmp_path)
    assert clock.slept == [FIRST_PAUSE]
    (heard,) = place.heard
    assert "fresh" in heard
    assert "runner" not in heard


@every_ask
@pytest.mark.parametrize("way", [closed, reset, cut, cut_chunk, not_now])
def test_it_is_asked_again_when_no_whole_answer_came_or_not_now(cluster, clock, place, tmp_path, ask, way):
    place.ways = [way, way]
    place.open()
    ask(tmp_path)
    assert clock.slept == [FIRST_PAUSE, 2 * FIRST_PAUSE]
    assert len(place.heard) == 3
    assert len(set(place.heard)) == 1, "the same request each time"


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429, 500, 502])
def test_any_other_answer_is_the_answer(cluster, clock, place, status):
    place.ways = [lambda handler: handler.say(status, {"reason": "some_reason", "title": "No"})]
    place.open()
    with pytest.raises(RefusedError, match=f"{status} some_reason") as refused:
        exchange.exchange("https://cache.example")
    assert (refused.value.status, clock.slept) == (status, [])


WISHES = {"3": 3.0, "3600": LONGEST_PAUSE, "0": FIRST_PAUSE, "soon": FIRST_PAUSE, "²": FIRST_PAUSE}


@pytest.mark.parametrize(("asked", "waited"), WISHES.items())
def test_the_daemons_wish_counts_but_not_for_long(cluster, clock, place, asked, waited):
    place.ways = [lambda handler: handler.say(503, {}, **{"Retry-After": asked})]
    place.open()
    ask_token(None)
    assert clock.slept == [waited]


def test_a_refusal_whose_words_were_cut_is_one(cluster, clock, place):
    place.ways = [lambda handler: handler.say(409, {"reason": "job_not_running"}, **{"Content-Length": "999"})]
    place.open()
    with pytest.raises(RefusedError, match="409"):
        exchange.exchange("https://cache.example")
    assert clock.slept == []


def test_patience_ends(cluster, clock, place, tmp_path, capsys):
    with pytest.raises(OSError, match="refused"):
        exchange.exchange("https://cache.example")
    assert PATIENCE_SECONDS - LONGEST_PAUSE < sum(clock.slept) <= PATIENCE_SECONDS
    clock.slept.clear()
    place.ways = [not_now] * 99
    place.open()
    (tmp_path / "f").write_bytes(b"built")
    assert report.main([str(tmp_path / "f")]) == 1
    assert "503 journal_unavailable: the journal cannot be written" in capsys.readouterr().err
    assert PATIENCE_SECONDS - LONGEST_PAUSE < sum(clock.slept) <= PATIENCE_SECONDS


@pytest.mark.parametrize("way", [closed, reset, cut, not_now])
def test_a_sandbox_ends_with_its_daemon_and_waits_for_nothing(clock, place, tmp_path, way):
    (tmp_path / "f").write_bytes(b"built")
    with pytest.raises(OSError, match="refused"):
        exchange.exchange("https://cache.example")
    place.ways = [way]
    place.open()
    assert report.main([str(tmp_path / "f")]) in (1, 2)
    assert (clock.slept, len(place.heard)) == ([], 1)


def test_outside_of_a_job_a_report_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("ORCHESTRATOR_TOKEN_FILE", raising=False)
    monkeypatch.setenv("ORCHESTRATOR_ARTIFACTS_URL", "http://127.0.0.1:1/")
    (tmp_path / "f").write_bytes(b"built")
    assert report.main([str(tmp_path / "f")]) == 2
    assert capsys.readouterr().err == (
        "orchestrator-artifact: 'ORCHESTRATOR_TOKEN_FILE' is not set: this is no job's script\n"
    )
