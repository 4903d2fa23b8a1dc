"""A server that jobs reach through the egress gateway: what a job did is known here, not from the daemon's word."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

HOST = "witness.test.internal"
_SYSTEM_PYTHON = Path("/usr/bin/python3")
PYTHON = (
    str(_SYSTEM_PYTHON)
    if _SYSTEM_PYTHON.exists()
    else f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
)
"""The interpreter that every sandbox has; not every machine has curl."""

_VISIT = """
import http.client, os, sys
connection = http.client.HTTPConnection(*os.environ["http_proxy"].removeprefix("http://").split(":"), timeout=600)
connection.request("POST", "/".join([os.environ["WITNESS"], os.environ["ORCHESTRATOR_JOB_ID"], *sys.argv[1:]]))
sys.exit(0 if connection.getresponse().status == 200 else 9)
"""

PREAMBLE = """RUN=$(cat /proc/sys/kernel/random/uuid)
visit() { "$PYTHON" -I -S -c "$VISIT" "$RUN" "$1" 2>/dev/null; }
"""
"""Before each script: `visit WORD` tells the witness; RUN is drawn anew at each start of the script."""

GATE = "gate"
"""A visit with this word is answered when the test opens the gate."""


class Visit(NamedTuple):
    """One request of a job. `run` tells two runs of one job apart."""

    job_id: str
    run: str
    word: str


@dataclass
class Witness:
    """`async with Witness() as witness:`; `visits` in order of arrival."""

    port: int = 0

    def __post_init__(self) -> None:
        self.visits: list[Visit] = []
        self._gate = asyncio.Event()
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the preamble needs."""
        return {"WITNESS": f"http://{HOST}:{self.port}", "VISIT": _VISIT, "PYTHON": PYTHON}

    @property
    def rule(self) -> dict[str, Any]:
        """The pool's egress rule that lets jobs come here."""
        return {"host": HOST, "port": self.port, "protocol": "http"}

    def words(self, job_id: str) -> list[str]:
        """What the job told, in order."""
        return [visit.word for visit in self.visits if visit.job_id == job_id]

    def open_gate(self) -> None:
        self._gate.set()

    def shut_gate(self) -> None:
        self._gate.clear()

    async def until(self, seen: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for a visit that makes `seen` true.

        Raises:
            TimeoutError: it did not come.
        """
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(seen)

    async def told(self, job_id: str, word: str) -> None:
        """Wait until the job has told this word."""
        await self.until(lambda: word in self.words(job_id))

    async def _visited(self, request: web.Request) -> web.Response:
        visit = Visit(request.match_info["job"], request.match_info["run"], request.match_info["word"])
        async with self._changed:
            self.visits.append(visit)
            self._changed.notify_all()
        if visit.word == GATE:
            await self._gate.wait()
        return web.Response()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{job}/{run}/{word}", self._visited)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open_gate()
        if self._runner is not None:
            await self._runner.cleanup()
