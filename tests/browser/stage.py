"""A real daemon with real jobs for the browser to look at, and everything a test asks of it. Synchronous: so is the
browser's driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psutil
import yaml

from orchestrator.evidence.approvals.statements import SECOND, moment
from orchestrator.testing.approvals import exception, id_of, public_pem, signed

CACHE, DEPLOY = "https://cache.example", "https://deploy.example"
HOST, GITHUB = "cache.demo.internal", "github.demo.internal"
POLICY = Path(__file__).with_name("policy")
SECONDS = 60
UNFINISHED = "sleep 600"
"""Ends with its cancellation."""


class Files(BaseHTTPRequestHandler):
    """What jobs may reach: a file of a fixed size, for whoever asks."""

    def do_GET(self) -> None:
        body = b"x" * 65536
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Stage:
    """Started and ended by `with`. `settings` are merged over those of a daemon here with three small pools."""

    def __init__(self, folder: Path, *, more_pools: Sequence[Mapping[str, Any]] = (), **settings: Any) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.files = ThreadingHTTPServer(("127.0.0.1", 0), Files)
        self._serving = threading.Thread(target=self.files.serve_forever, daemon=True)
        self._serving.start()
        host = {"host": HOST, "port": self.files.server_port, "protocol": "http"}
        people = folder / "approvers.yaml"
        people.write_text(yaml.safe_dump({"version": 1, "people": _people()}))
        document = {
            "state_dir": str(self.state),
            "server": {"port": 0},
            "policy": {"bundle": str(POLICY)},
            "identity": {"audiences": {CACHE: {}, DEPLOY: {}}},
            "approvals": {"people": str(people)},
            "egress": {"names": {HOST: "127.0.0.1", GITHUB: "127.0.0.1"}},
            "pools": [
                {"name": "build", "capacity": 4, "egress": [host]},
                {"name": "deploy", "capacity": 2, "trust_tier": "protected", "egress": [host]},
                {"name": "narrow", "capacity": 1, "trust_tier": "untrusted"},
                *more_pools,
            ],
        }
        self.config = folder / "orchestrator.yaml"
        self.config.write_text(yaml.safe_dump(document | settings))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.end()
            raise

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> Self:
        (self.state / "daemon.json").unlink(missing_ok=True)
        with (self.folder / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", "run", "--config", str(self.config)],
                stderr=errors, start_new_session=True, cwd=self.folder,
            )  # fmt: skip
        self.until(lambda: (self.state / "daemon.json").exists())
        return self

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def part(self, word: str) -> psutil.Process:
        """The daemon's own child whose command line holds `word`: `orchestrator.egress` or `launcher`."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        (part,) = (child for child in children if word in " ".join(child.cmdline()))
        return part

    def end(self) -> None:
        """Now: its jobs are not waited for."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(SECONDS)
        self.files.shutdown()
        self.files.server_close()
        self._serving.join()

    @property
    def url(self) -> str:
        url: str = json.loads((self.state / "daemon.json").read_text())["url"]
        return url

    def until(self, done: Callable[[], bool], seconds: float = SECONDS) -> None:
        limit = time.monotonic() + seconds
        while not done():
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError((self.folder / "stderr").read_text())
            if time.monotonic() > limit:
                raise AssertionError(f"waited {seconds} s in vain: {(self.folder / 'stderr').read_text()[-4000:]}")
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Any:
        """The JSON of an answer.

        Raises:
            urllib.error.HTTPError: it was no success.
        """
        return json.loads(self._send(method, path, body, headers) or b"null")

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> bytes:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["Authorization"] = f"Bearer {(self.state / 'caller-token').read_text().strip()}"
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            given["Content-Type"] = "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=given)
        with urllib.request.urlopen(request, timeout=30) as answer:
            read: bytes = answer.read()
            return read

    def dispatch(self, name: str, script: str = "echo done", pool: str = "build", **more: Any) -> str:
        """The id of a new job."""
        key = uuid.uuid4().hex
        made: str = self.ask(
            "POST", "/v1/jobs", {"name": name, "script": script, "pool": pool, **more}, Idempotency_Key=key
        )["id"]
        return made

    def job(self, job_id: str) -> dict[str, Any]:
        view: dict[str, Any] = self.ask("GET", f"/v1/jobs/{job_id}")
        return view

    def reached(self, job_id: str, phase: str) -> dict[str, Any]:
        self.until(lambda: self.job(job_id)["phase"] == phase)
        return self.job(job_id)

    def run(self, name: str, script: str = "echo done", pool: str = "build", **more: Any) -> str:
        """The id of a job that is finished."""
        job_id = self.dispatch(name, script, pool, **more)
        self.reached(job_id, "finished")
        return job_id

    def cancel(self, job_id: str, reason: str = "") -> None:
        self.ask("DELETE", f"/v1/jobs/{job_id}?reason={quote(reason)}")

    def log(self, job_id: str) -> bytes:
        return self._send("GET", f"/v1/jobs/{job_id}/log", None, {})

    def facts(self, job_id: str) -> list[str]:
        """The kinds of the job's facts so far."""
        told = self._send("GET", f"/v1/jobs/{job_id}/events", None, {}).decode()
        return [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]

    def command(self, *words: str) -> str:
        """What a command prints, as an operator on this machine would run it."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "ORCHESTRATOR_STATE_DIR": str(self.state)}, cwd=self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def link(self) -> str:
        """A link that signs its reader in."""
        url: str = json.loads(self.command("page", "--json"))["url"]
        return url

    def ask_for_exception(self) -> str:
        """An exception that carol asked for, and that nobody approved yet; its id."""
        now = time.time_ns()
        wanted = exception(starts_at=moment(now - 60 * SECOND), expires_at=moment(now + 1800 * SECOND))
        self.ask("POST", "/v1/approvals", json.loads(signed(wanted, "carol").text()))
        return id_of(wanted)

    @property
    def release(self) -> str:
        """The script of a job that builds, fetches, is refused, and gets a token."""
        return "\n".join(
            (
                "echo '+ fetch the cache'",
                f"curl --silent --fail --output cache http://{HOST}:{self.files.server_port}/cache.tar && wc -c cache",
                "echo '+ a host that is not listed'",
                "curl --silent --output /dev/null http://telemetry.example/ || echo 'refused, as it must be'",
                "echo '+ build'",
                "for step in configure compile link package; do printf '%s ' \"$step\"; sleep 0.2; echo ok; done",
                "echo hello > site.tar && orchestrator-artifact site.tar",
                "echo '+ tokens'",
                f"orchestrator-token --audience {CACHE} | wc -c",
                f"orchestrator-token --audience {DEPLOY} | wc -c || true",
            )
        )


def _people() -> dict[str, Any]:
    rights = [{"kinds": ["security", "break_glass", "override", "review"], "environments": ["*"]}]
    return {
        "alice": {"keys": [public_pem("alice")], "may": rights},
        "bob": {"keys": [public_pem("bob")], "may": rights},
        "carol": {"keys": [public_pem("carol")]},
    }
