"""What jobs ask of the runner API while a cluster's daemon is being replaced; the clock is the test's."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType

import pytest

from orchestrator.agent import artifact
from orchestrator.agent.tokens import exchange
from orchestrator.agent.tokens.artifact import name_artifact
from orchestrator.testing.ports import free_port

TOKEN = {"access_token": "a.b.c", "expires_in": 600}


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


class Place:
    """An address where nobody listens until `open`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.asked = 0
        self.heard = ""
        self._server: HTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    def open(self) -> None:
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                place.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                place.heard = f"{self.headers['Authorization']} {body}"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(TOKEN).encode())

            def log_message(self, *_: object) -> None:
                return

        self._server = HTTPServer(("127.0.0.1", self.port), Handler)
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
    for module in (exchange, artifact):
        monkeypatch.setattr(module, "time", made)
    return made


def in_a_cluster(monkeypatch, module: ModuleType) -> None:
    """Whoever trusts a CA of the runner API's own; TLS itself is tested with the real API."""
    monkeypatch.setattr(module, "trust", lambda: [urllib.request.HTTPHandler()])


def test_a_token_is_asked_for_until_the_next_daemon_is_there(monkeypatch, clock, place):
    in_a_cluster(monkeypatch, exchange)
    clock.at_first = place.open
    assert exchange.exchange("https://cache.example").token == "a.b.c"
    assert (clock.slept, place.asked) == ([exchange.FIRST_PAUSE], 1)


@pytest.mark.parametrize("how", ["token", "deployment", "report"])
def test_the_next_daemon_is_shown_the_token_of_now(monkeypatch, clock, place, tmp_path, how):
    """It is renewed while nobody answers, and what was there before is too old by then."""
    for module in (exchange, artifact):
        in_a_cluster(monkeypatch, module)

    def renewed() -> None:
        (tmp_path / "token").write_text("fresh")
        place.open()

    clock.at_first = renewed
    ask = {
        "token": lambda: exchange.exchange("https://cache.example"),
        "deployment": lambda: name_artifact("sha256:" + 64 * "0"),
        "report": lambda: artifact.send(place.url, {"name": "f"}),
    }
    ask[how]()
    assert "fresh" in place.heard
    assert "runner" not in place.heard


def test_an_artifact_is_reported_to_the_next_daemon_once(monkeypatch, clock, place):
    in_a_cluster(monkeypatch, artifact)
    clock.at_first = place.open
    assert json.loads(artifact.send(place.url, {"name": "f"})) == TOKEN
    assert (clock.slept, place.asked) == ([artifact.FIRST_PAUSE], 1)


def test_patience_ends(monkeypatch, clock, place):
    in_a_cluster(monkeypatch, exchange)
    with pytest.raises(OSError, match="refused"):
        exchange.exchange("https://cache.example")
    assert exchange.PATIENCE_SECONDS - exchange.LONGEST_PAUSE < sum(clock.slept) <= exchange.PATIENCE_SECONDS
    in_a_cluster(monkeypatch, artifact)
    clock.slept.clear()
    with pytest.raises(OSError, match="refused"):
        artifact.send(place.url, {"name": "f"})
    assert artifact.PATIENCE_SECONDS - artifact.LONGEST_PAUSE < sum(clock.slept) <= artifact.PATIENCE_SECONDS


def test_a_sandbox_ends_with_its_daemon_and_waits_for_nothing(clock, place):
    with pytest.raises(OSError, match="refused"):
        exchange.exchange("https://cache.example")
    with pytest.raises(OSError, match="refused"):
        artifact.send(place.url, {"name": "f"})
    assert clock.slept == []
