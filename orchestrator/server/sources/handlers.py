"""The sources of jobs and how they are doing, for operators."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.model.source import CallCounts, CallLimit, Failure, PlatformCounts, RunnerSetState, SourceState
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.page.roles import VISITOR
from orchestrator.server.views import timestamp


class Sources:
    """The handler. What it shows is of all repositories that a source serves, so no other caller may see it."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    async def list_sources(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        if VISITOR not in request and request[CALLER].issuer != self._deps.local_issuer:
            raise GiveUpError(
                "Only operators may see the sources.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        return json_response({"sources": [source_view(one) for one in self._deps.sources()]})


def source_view(state: SourceState) -> dict[str, Any]:
    """A source as the API shows it; see `source_shapes.SourceView`."""
    return {
        "name": state.name,
        "kind": state.kind.value,
        "url": state.url,
        "sets": [_set_view(one) for one in state.sets],
        "failure": _failure_view(state.failure),
        "deliveries_waiting": state.deliveries_waiting,
        "deliveries_again": state.deliveries_again,
        "events": dict(state.events),
        "calls": {endpoint: _calls_view(state.calls[endpoint]) for endpoint in sorted(state.calls)},
        "calls_per_job": round(state.calls_per_job, 3),
        "rate_limits": {resource: _limit_view(state.limits[resource]) for resource in sorted(state.limits)},
    }


def _set_view(one: RunnerSetState) -> dict[str, Any]:
    return {
        "name": one.name,
        "pool": one.pool,
        "stage": one.stage,
        "platform_id": one.platform_id,
        "announced": one.announced,
        "polled_at": timestamp(one.polled_at_ns),
        "heard_at": timestamp(one.heard_at_ns),
        "jobs": _jobs_view(one.jobs) if one.jobs else None,
        "slots": dict(one.slots),
        "short": one.short,
        "withheld": one.withheld,
        "queued": one.queued,
        "waiting_for": one.waiting_for,
        "failure": _failure_view(one.failure),
        "labels_lacking": list(one.labels_lacking),
    }


def _jobs_view(jobs: PlatformCounts) -> Mapping[str, int]:
    return {
        "available": jobs.available,
        "acquired": jobs.acquired,
        "assigned": jobs.assigned,
        "running": jobs.running,
        "registered_runners": jobs.registered_runners,
        "busy_runners": jobs.busy_runners,
        "idle_runners": jobs.idle_runners,
    }


def _failure_view(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    since = timestamp(failure.since_ns)
    return {"reason": failure.reason, "message": failure.message, "fix": failure.fix, "since": since}


def _calls_view(calls: CallCounts) -> dict[str, Any]:
    return {
        "calls": calls.calls,
        "retries": calls.retries,
        "seconds": round(calls.seconds, 3),
        "by_status": {status: calls.by_status[status] for status in sorted(calls.by_status)},
    }


def _limit_view(limit: CallLimit) -> dict[str, Any]:
    return {"limit": limit.limit, "remaining": limit.remaining, "resets_at": _moment(limit.resets_at)}


def _moment(seconds: int) -> str | None:
    """RFC 3339 in UTC; None for a moment that cannot be one: the platform's word is taken as it comes."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
