"""A source's state with something in every field."""

from __future__ import annotations

from orchestrator.model.source import (
    CallCounts,
    CallLimit,
    Failure,
    PlatformCounts,
    RunnerSetState,
    SourceKind,
    SourceState,
    WaitCounts,
)

AT = 1_767_000_000
"""Unix seconds, 2025-12-29T09:20:00Z."""


def source_state(name: str = "acme") -> SourceState:
    """A scale set whose session cannot be had, with jobs on runners of before."""
    one = RunnerSetState(
        name="default/zt",
        pool="default",
        stage="waiting",
        platform_id=7,
        announced=4,
        polled_at_ns=(AT - 50) * 10**9,
        heard_at_ns=AT * 10**9,
        jobs=PlatformCounts(
            available=0, acquired=0, assigned=3, running=2, registered_runners=3, busy_runners=2, idle_runners=1
        ),
        slots={"coming": 0, "starting": 0, "free": 1, "busy": 2, "over": 0},
        short=1,
        withheld=0,
        waiting_for="github_unavailable",
        failure=Failure("github_unavailable", "GET poll got no answer", "look at the proxy", AT * 10**9),
        labels_lacking=("gpu",),
        waits=WaitCounts((1.0, 5.0), (1, 0, 2), 61.5),
    )
    return SourceState(
        name=name,
        kind=SourceKind.SCALE_SETS,
        url="https://github.com/acme",
        sets=(one,),
        events={"registered": 5, "named": 4, "mismatches": 0},
        calls={
            "poll": CallCounts({"2xx": 40, "none": 2}, retries=1, seconds=1000.5),
            "generate_jit": CallCounts({"2xx": 5}, seconds=2.5),
        },
        calls_per_job=4.25,
        limits={"core": CallLimit(5000, 4990, AT + 3600)},
    )
