"""Driving the server from another process: dispatch, faults, time, and what has happened. Only when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.testing.github.assignment import statistics
from orchestrator.testing.github.documents import run_conclusion, run_status
from orchestrator.testing.github.faults import Fault, Faults
from orchestrator.testing.github.model import JobPlan, Run
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

_MAX_COPIES = 100_000
_LOG_SECONDS = 120.0


class ControlRoutes:
    """`POST /_control/dispatch`, `/faults`, `/step`, `/cancel/{id}`, and `GET /_control/state`; all JSON, no token.
    `GET /_control/log/{id}` is what the page of a run would show at its end, as text; `last` is the latest run.
    """

    def __init__(self, state: GitHubState, faults: Faults, counters: Callable[[], dict[str, int]]) -> None:
        self._state = state
        self._faults = faults
        self._counters = counters

    def endpoints(self) -> list[Endpoint]:
        table = [
            ("GET", "/_control/state", self._report),
            ("GET", "/_control/log/{id}", self._log),
            ("POST", "/_control/dispatch", self._dispatch),
            ("POST", "/_control/faults", self._fault),
            ("POST", "/_control/step", self._step),
            ("POST", "/_control/cancel/{id}", self._cancel),
        ]
        return [Endpoint(method, path, handler, Plane.OTHER) for method, path, handler in table]

    async def _report(self, call: Call) -> Reply:
        runs = [_run_document(run) for run in self._state.runs.values()] if call.query("runs") != "0" else []
        jobs = self._state.jobs.values()
        return Reply(
            200,
            {
                "counters": self._counters(),
                "jobs": {"all": len(jobs), "done": sum(job.done for job in jobs)},
                "runs": runs,
                "runners": [runner.name for runner in self._state.runners.values()],
                "scale_sets": {one.name: statistics(one) for one in self._state.sets.values()},
            },
        )

    async def _dispatch(self, call: Call) -> Reply:
        """`{"repository", "jobs": [JobPlan], "copies", "event", "ref", …}`; every job is made `copies` times."""
        told = _object(call)
        name, copies = str(told.pop("repository", "")), told.pop("copies", 1)
        if name.lower() not in self._state.repositories:
            raise ApiError(404, "No such repository.")
        if not isinstance(copies, int) or not 1 <= copies <= _MAX_COPIES:
            raise ApiError(422, f"copies must be 1 to {_MAX_COPIES}.")
        try:
            plans = msgspec.convert(told.pop("jobs", [{}]), list[JobPlan])
            run = self._state.dispatch(name, plans * copies, **told)
        except (msgspec.ValidationError, TypeError, KeyError) as error:
            raise ApiError(422, f"This is no workflow: {error}") from error
        return Reply(201, _run_document(run))

    async def _fault(self, call: Call) -> Reply:
        """`{"fault", "part", "times", "seconds", "skip"}`; an empty object ends all faults."""
        told = _object(call)
        if not told:
            self._faults.clear()
            return Reply(204)
        try:
            self._faults.add(Fault(told.pop("fault", "")), **told)
        except (ValueError, TypeError) as error:
            raise ApiError(422, f"This is no fault: {error}") from error
        return Reply(204)

    async def _step(self, call: Call) -> Reply:
        seconds = _object(call).get("seconds")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ApiError(422, "seconds must be a number of 0 or more.")
        await self._state.clock.step(seconds)
        return Reply(200, {"now": self._state.clock.now()})

    async def _cancel(self, call: Call) -> Reply:
        self._state.cancel(self._run(call))
        return Reply(204)

    async def _log(self, call: Call) -> Reply:
        """Waits until the run is done, for two minutes at most."""
        run = self._run(call)
        with contextlib.suppress(TimeoutError):
            await self._state.until(lambda: run.done, _LOG_SECONDS)
        return Reply(200, "".join(f"== {job.plan.name}: {job.conclusion or job.state}\n{job.log}" for job in run.jobs))

    def _run(self, call: Call) -> Run:
        runs = self._state.runs
        run = next(reversed(runs.values()), None) if call.place["id"] == "last" else runs.get(call.number("id"))
        if run is None:
            raise ApiError(404, "No such run.")
        return run


def _run_document(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "status": run_status(run),
        "conclusion": run_conclusion(run),
        "jobs": [
            {"id": job.id, "key": job.key, "state": job.state, "result": job.result, "runner": job.runner_name}
            for job in run.jobs
        ],
    }


def _object(call: Call) -> dict[str, Any]:
    told = call.json() if call.body else {}
    if not isinstance(told, dict):
        raise ApiError(422, "Expected an object.")
    return told
