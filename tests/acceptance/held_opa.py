"""An OPA server that keeps some questions waiting, so that a job can be looked at while it is in the queue.

It speaks OPA's Data API as `tests/integration/policy/test_opa_server.py` describes it, and evaluates real Rego.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from orchestrator.policy.rego import Module, RegoProgram

POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "no rule allows this"}]}

decision := {"allow": true} if {
	input.stage == "admission"
	input.pool.name == "default"
	input.claimed.name != "denied"
}

decision := {"allow": true} if {
	input.stage == "exchange"
	input.request.audience == "https://cloud.example"
}
"""
"""Refuses jobs called *denied* and tokens for any other audience."""

POLICY_TEST = """package orchestrator_test

import data.orchestrator

asked := {"stage": "admission", "pool": {"name": "default"}, "claimed": {"name": "build"}, "request": {"audience": ""}}

test_a_job_runs if orchestrator.decision.allow == true with input as asked

test_a_denied_one_does_not if {
	orchestrator.decision.allow == false with input as object.union(asked, {"claimed": {"name": "denied"}})
}
"""


def bundle_of(folder: Path) -> Path:
    """A folder with this policy, for a daemon that evaluates it itself."""
    bundle = folder / "policy"
    bundle.mkdir(exist_ok=True)
    (bundle / "decision.rego").write_text(POLICY, encoding="utf-8")
    (bundle / "decision_test.rego").write_text(POLICY_TEST, encoding="utf-8")
    return bundle


HELD = "held"
"""How the names of jobs begin whose questions wait."""


class HeldOpa:
    """`async with HeldOpa() as opa:`; `opa.setting` is the daemon's `policy`."""

    def __init__(self) -> None:
        self._asked: list[str] = []
        self._let_go = asyncio.Event()
        self._changed = asyncio.Condition()
        self._program = RegoProgram((Module("decision.rego", POLICY),), "{}")
        self._runner: web.AppRunner | None = None
        self.url = ""

    @property
    def setting(self) -> dict[str, Any]:
        return {"engine": "opa", "opa_url": self.url, "timeout_seconds": 60}

    async def asked_about(self, name: str) -> None:
        """Wait until somebody has asked about a job of this name."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: name in self._asked)

    def let_go(self) -> None:
        """Answer from now on, also what waits."""
        self._let_go.set()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/data/{path:.+}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        document = json.loads(await request.read()).get("input", {})
        name = str(document.get("claimed", {}).get("name", ""))
        async with self._changed:
            self._asked.append(name)
            self._changed.notify_all()
        if name.startswith(HELD):
            await self._let_go.wait()
        path = "data." + request.match_info["path"].replace("/", ".")
        result = self._program.rule(path, json.dumps(document))
        return web.json_response({} if result is None else {"result": json.loads(result)})
