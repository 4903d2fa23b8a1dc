"""Where the stand-in runner program gets its job and reports it. Made up, but in the order of the real broker.

`POST session`, `GET message` (long poll), `POST complete`, `DELETE session`; the credential is the
one from the just-in-time configuration.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from orchestrator.testing.github.model import Job, Runner
from orchestrator.testing.github.runner_job import job_message
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

_ANNOTATION = re.compile(r"^::error(?: [^:]*)?::(.*)$", re.MULTILINE)
_RESULTS = frozenset({"succeeded", "failed", "canceled", "abandoned"})


class BrokerRoutes:
    """`refuse_versions` answers every runner program that its version is too old (exit code 7)."""

    def __init__(self, state: GitHubState) -> None:
        self._state = state
        self.runner_url = ""
        self.refuse_versions = False

    def endpoints(self) -> list[Endpoint]:
        table = [
            ("POST", "/_broker/session", self._open),
            ("DELETE", "/_broker/session", self._close),
            ("GET", "/_broker/message", self._message),
            ("POST", "/_broker/complete", self._complete),
        ]
        return [Endpoint(method, path, handler, Plane.OTHER) for method, path, handler in table]

    async def _open(self, call: Call) -> Reply:
        runner = self._runner(call)
        if self.refuse_versions:
            raise ApiError(426, "This runner version is deprecated.", "GitHub.AccessDeniedException")
        if runner.session_id:
            raise ApiError(409, "The runner already has a session.", "GitHub.TaskAgentSessionConflictException")
        return Reply(200, {"sessionId": self._state.come_online(runner)})

    async def _close(self, call: Call) -> Reply:
        self._state.go_offline(self._runner(call))
        return Reply(204)

    async def _message(self, call: Call) -> Reply:
        runner = self._with_session(call)
        busy = call.query("status") == "Busy"
        if not self._has_news(runner, busy):
            runner.waiter = asyncio.get_running_loop().create_future()
            try:
                await self._state.clock.wait(runner.waiter, self._state.options.poll_hold)
            finally:
                runner.waiter, runner.heard_at = None, self._state.clock.now()
        if runner.id not in self._state.runners:
            raise ApiError(403, "The runner was removed.", "GitHub.AgentNotFoundException")
        if runner.cancelled:
            return Reply(200, {"messageType": "JobCancellation"})
        if busy or runner.job is None:
            return Reply(202)
        return Reply(200, job_message(runner.job, self.runner_url))

    @staticmethod
    def _has_news(runner: Runner, busy: bool) -> bool:
        return runner.cancelled or (runner.job is not None and not busy)

    async def _complete(self, call: Call) -> Reply:
        runner, told = self._runner(call), call.json()
        job = runner.job
        if job is None:
            raise ApiError(404, "The runner has no job.", "GitHub.TaskOrchestrationJobNotFoundException")
        result = str(told.get("result"))
        if result not in _RESULTS:
            raise ApiError(400, f"No result of a job: {result[:40]}", "System.ArgumentException")
        _note(job, told)
        self._state.finish(runner, result)
        return Reply(204)

    def _runner(self, call: Call) -> Runner:
        secret = call.request.headers.get("Authorization", "").removeprefix("Bearer ")
        runner = self._state.runners_by_secret.get(secret)
        if runner is None:
            raise ApiError(401, "The runner is not registered.", "GitHub.AgentNotFoundException")
        runner.heard_at = self._state.clock.now()
        return runner

    def _with_session(self, call: Call) -> Runner:
        runner = self._runner(call)
        if not runner.session_id or call.query("sessionId") != runner.session_id:
            raise ApiError(401, "The session is not known.", "GitHub.TaskAgentSessionExpiredException")
        return runner


def _note(job: Job, told: dict[str, Any]) -> None:
    job.log = str(told.get("log") or "")
    job.steps = list(told.get("steps") or [])
    job.annotations = _ANNOTATION.findall(job.log)
