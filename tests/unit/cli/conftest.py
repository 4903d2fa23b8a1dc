"""A real HTTP server that speaks the public API in memory, with switches for what can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.testing import CliRunner

from orchestrator.server.shapes import JobSummaryView

TOKEN = "caller-token-value"


def job_view(job_id: str = "dispatch.aa11bb22cc33dd44.1", **changes: Any) -> dict[str, Any]:
    """A job view as the API gives it."""
    view: dict[str, Any] = {
        "id": job_id, "name": "build", "pool": "default", "pipeline": "", "source": "dispatch", "attempt": 1,
        "phase": "queued", "wait": None, "result": None, "reason": None, "message": "", "exit_code": None,
        "offered_at": "2026-01-02T03:04:05.000000Z", "bound_at": None, "ended_at": None, "finished_at": None,
        "cancel": None, "caller": {"issuer": "http://127.0.0.1:8455", "subject": "operator", "facts": {}},
        "deployment_environment": "", "artifact_digest": "", "ticket": "", "secrets": [], "runner": None,
        "platform_job": None,
        "trace_id": "ab" * 16,
        "decisions": [], "tokens": [], "token_refusals": [], "egress": [], "egress_omitted": 0, "artifacts": [],
        "provenance": [], "documents": [], "attestations": [], "summaries": [], "receipt_digest": None, "alarms": [],
        "leftovers": [], "log": None, "compacted": False,
    }  # fmt: skip
    return view | changes


def summary_of(view: dict[str, Any]) -> dict[str, Any]:
    """The line that a list has of a job."""
    kept = {name: view[name] for name in JobSummaryView.model_fields if name != "why"}
    stand = view.get("why", {"reason": "policy_pending", "sentence": "The job waits for policy's answer."})
    return kept | {"why": None if view["phase"] == "finished" else stand}


ENDED = {
    "success": {"result": "success", "reason": "completed", "exit_code": 0},
    "failure": {"result": "failure", "reason": "exit_nonzero", "exit_code": 3, "message": "the script ended with 3"},
    "denied": {"result": "denied", "reason": "policy_denied", "message": "prod takes main only [prod_branch]"},
    "cancellation": {"result": "cancellation", "reason": "cancelled"},
    "timeout": {"result": "timeout", "reason": "run_timeout"},
    "error": {"result": "error", "reason": "runner_lost"},
}


class FakeDaemon:
    """Jobs end as soon as they are followed, with `ends_as`. Faults are counted down: each happens `n` times."""

    def __init__(self) -> None:
        self.url = ""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.log = b"hello\nworld\n"
        self.ends_as = "success"
        self.alarm: dict[str, str] = {}
        self.trace: dict[str, Any] = {"trace_id": "ab" * 16, "spans": []}
        self.faults: dict[str, int] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[dict[str, Any]] = []
        self.receipt = ""
        self.evidence_key = ""
        self.issuers: list[dict[str, Any]] = []
        self.rotations = 0
        self.sources: list[dict[str, Any]] = []
        self.trust: dict[str, Any] = {}
        self.checked: dict[str, Any] = {}
        self.inventory: dict[str, Any] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, Any] = {}
        """What else may be read, by path; text goes out as it is."""
        self.after_lists: Callable[[], None] | None = None
        self.problem: tuple[int, dict[str, Any], dict[str, str]] | None = None

    def _fault(self, name: str) -> bool:
        left = self.faults.get(name, 0)
        self.faults[name] = left - 1
        return left > 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.router.add_post("/v1/jobs", self._dispatch)
        app.router.add_get("/v1/jobs", self._list)
        app.router.add_get("/v1/jobs/{id}", self._get)
        app.router.add_delete("/v1/jobs/{id}", self._cancel)
        app.router.add_get("/v1/jobs/{id}/log", self._log)
        app.router.add_get("/v1/jobs/{id}/events", self._events)
        app.router.add_get("/v1/jobs/{id}/trace", self._trace)
        app.router.add_get("/v1/jobs/{id}/receipt", self._receipt)
        app.router.add_get("/v1/evidence/key", self._key)
        app.router.add_get("/v1/sources", self._sources)
        app.router.add_get("/v1/keys", self._keys)
        app.router.add_post("/v1/keys/{kid}/revoke", self._revoke)
        app.router.add_post("/v1/keys/rotate", self._rotate)
        app.router.add_get("/v1/jobs/{id}/trust", self._trust)
        app.router.add_get("/v1/trust", self._inventory)
        app.router.add_post("/v1/policy/check", self._check)
        app.router.add_get("/v1/artifacts", self._artifacts)
        app.router.add_get("/v1/artifacts/{digest}", self._artifact)
        app.router.add_get("/v1/artifacts/{digest}/attestations/{attestation}", self._attestation)
        app.router.add_post("/v1/artifacts/{digest}/attestations", self._upload)
        app.router.add_get("/{path:.*}", self._document)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query)))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "token_invalid", "The token is not valid.")
        if self.problem:
            status, document, headers = self.problem
            return web.json_response(document, status=status, headers=headers)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if self._fault("full"):
            return problem(429, "queue_full", "The queue is full.", headers={"Retry-After": "0"})
        key, text = request.headers["Idempotency-Key"], json.dumps(body, sort_keys=True)
        known = self.keys.get(key)
        if known and known[1] != text:
            return problem(422, "idempotency_key_reused", "The key was used for another job.", fix="take a new key")
        if not known:
            job_id = f"dispatch.{len(self.jobs) + 1:04d}{'f' * 12}.1"
            self.jobs[job_id] = job_view(job_id, name=body["name"], pipeline=body.get("pipeline", ""))
            self.keys[key] = known = (job_id, text)
            replayed = False
        else:
            replayed = True
        if self._fault("lose_answer"):
            assert request.transport
            request.transport.abort()
            await asyncio.sleep(0)
            return web.Response()
        headers = {"Location": f"/v1/jobs/{known[0]}"} | ({"Idempotency-Replayed": "true"} if replayed else {})
        return web.json_response(self.jobs[known[0]], status=200 if replayed else 202, headers=headers)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        wanted = {k: v for k, v in request.query.items() if k not in ("limit", "after")}
        lines = [job for job in reversed(self.jobs.values()) if all(job[k] == v for k, v in wanted.items())]
        ids = [job["id"] for job in lines]
        start = ids.index(request.query["after"]) + 1 if "after" in request.query else 0
        limit = int(request.query["limit"])
        page = lines[start : start + limit]
        more = start + limit < len(lines)
        answer = web.json_response(
            {"jobs": [summary_of(job) for job in page], "next": page[-1]["id"] if more else None}
        )
        if self.after_lists:
            self.after_lists()
        return answer

    def _job(self, request: web.Request) -> dict[str, Any]:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(
                text=json.dumps({"reason": "job_not_found", "detail": "There is no such job.", "status": 404}),
                content_type="application/problem+json",
            )
        return job

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._job(request))

    async def _receipt(self, request: web.Request) -> web.StreamResponse:
        self._job(request)
        if not self.receipt:
            return problem(404, "receipt_pending", "The job is not finished.", fix="ask again")
        return web.Response(text=self.receipt, content_type="application/json")

    async def _key(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=self.evidence_key, content_type="application/x-pem-file")

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        job["cancel"] = {"by": "operator", "reason": request.query.get("reason", "")}
        return web.json_response(job, status=202)

    async def _trace(self, request: web.Request) -> web.StreamResponse:
        self._job(request)
        return web.json_response(self.trace)

    async def _trust(self, request: web.Request) -> web.StreamResponse:
        asked = {"job_id": request.match_info["id"], "audience": request.query["audience"]}
        return web.json_response(self.trust | asked | {"role": request.query.get("role", "")})

    async def _inventory(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self.inventory)

    async def _check(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        return web.json_response(self.checked)

    async def _artifacts(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"artifacts": list(self.artifacts)})

    async def _artifact(self, request: web.Request) -> web.StreamResponse:
        found = self.artifacts.get(request.match_info["digest"])
        return web.json_response(found) if found else problem(404, "artifact_unknown", "There is no such artifact.")

    async def _attestation(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"mediaType": "a-bundle", "of": request.match_info["attestation"]})

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        return web.json_response(self.artifacts[request.match_info["digest"]]["attestations"][0], status=201)

    async def _document(self, request: web.Request) -> web.StreamResponse:
        found = self.documents.get(request.path)
        if found is None:
            return problem(404, "not_found", "There is no such path.")
        return web.Response(text=found) if isinstance(found, str) else web.json_response(found)

    async def _keys(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"issuers": self.issuers})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        kid = request.match_info["kid"]
        for issuer in self.issuers:
            for key in issuer["keys"]:
                if key["kid"] == kid:
                    changed, key["state"] = key["state"] != "revoked", "revoked"
                    return web.json_response(issuer | {"kid": kid, "changed": changed})
        return problem(404, "key_unknown", "No issuer has a key of this kid.", fix="see `orchestrator keys`")

    async def _rotate(self, request: web.Request) -> web.StreamResponse:
        wanted, at_once = request.query.get("issuer"), request.query.get("at_once") == "true"
        issuers = [one for one in self.issuers if wanted in (None, one["issuer"] or one["url"], one["url"])]
        if not issuers:
            return problem(404, "key_issuer_unknown", "No issuer of this daemon has this name or URL.")
        signs_at = None if at_once else "2026-01-03T03:04:05.000000Z"
        done = [one | {"changed": not self.rotations, "signs_at": signs_at} for one in issuers]
        self.rotations += 1
        return web.json_response({"issuers": done})

    async def _sources(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"sources": self.sources})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        rest = b"" if self.ends_as == "denied" else self.log[int(request.query["offset"]) :]
        if self._fault("cut_log"):
            await response.write(rest[: max(1, len(rest) // 2)])
            await asyncio.sleep(0.05)
            assert request.transport
            request.transport.abort()
            return response
        if self._fault("silent_log"):
            await response.write(rest[:3])
            await asyncio.sleep(2)
            return response
        await response.write(rest)
        if request.query["follow"] == "true":
            self.end(job)
        return response

    def end(self, job: dict[str, Any]) -> None:
        job.update(ENDED[self.ends_as], phase="finished", ended_at="2026-01-02T03:04:06Z")
        job["finished_at"] = "2026-01-02T03:04:07Z"

    async def _events(self, request: web.Request) -> web.StreamResponse:
        job = self._job(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        facts: list[tuple[str, dict[str, Any]]] = [("JobOffered", {}), ("JobAdmitted", {})]
        facts += [("JobWaited", {"reason": "pool_full", "detail": "4 of 4"}), ("ProvisionStarted", {})]
        facts += [("AlarmRaised", self.alarm)] if self.alarm else []
        if self.ends_as == "denied":
            self.end(job)
            facts = [("JobOffered", {}), ("JobRefused", {}), ("JobEnded", {})]
        elif job["result"]:
            facts += [("RunnerBound", {}), ("JobEnded", {})]
        else:
            facts += [("RunnerBound", {})]
        cut = 2 if self._fault("cut_events") else len(facts)
        for number, (kind, event) in enumerate(facts[:cut], 1):
            data = json.dumps({"seq": number, "kind": kind, "event": event})
            await response.write(f": beat\n\nid: {number}\nevent: {kind}\ndata: {data}\n\n".encode())
        if cut < len(facts):
            await asyncio.sleep(0.05)
            assert request.transport
            request.transport.abort()
        elif not job["result"] and not self._fault("close_events"):
            await asyncio.sleep(0.05)
            self.end(job)
            await response.write(f"id: {cut + 1}\nevent: JobEnded\ndata: {{}}\n\n".encode())
        return response


def problem(status: int, reason: str, detail: str, *, fix: str = "", headers: Any = None) -> web.Response:
    document = {"type": f"urn:orchestrator:problem:{reason}", "status": status, "detail": detail, "reason": reason}
    if fix:
        document["fix"] = fix
    return web.json_response(document, status=status, headers=headers, content_type="application/problem+json")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """The server on a thread of its own: the client under test blocks."""
    fake, loop, ready = FakeDaemon(), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(fake.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield fake
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state folder that commands look into."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(folder))
    monkeypatch.setenv("COLUMNS", "160")
    return folder


@pytest.fixture
def local_daemon(daemon: FakeDaemon, state: Path) -> FakeDaemon:
    """The server as the one whose address and token lie in the state folder."""
    (state / "daemon.json").write_text(json.dumps({"url": daemon.url, "pid": 1, "version": "0.1.0"}))
    (state / "caller-token").write_text(TOKEN + "\n")
    return daemon


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command line; standard output and error apart, as wide as a pipe is unless a test says otherwise."""
    if "ORCHESTRATOR_STATE_DIR" not in os.environ:  # those who have a state folder have set their width with it
        monkeypatch.delenv("COLUMNS", raising=False)
    from orchestrator.cli.main import app

    def run(*arguments: str, stdin: str | None = None) -> Any:
        return CliRunner().invoke(app, list(arguments), input=stdin)

    return run


@pytest.fixture
def make_view() -> Callable[..., dict[str, Any]]:
    return job_view
