"""What a running daemon says of itself by its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from orchestrator.cli.link.client import DaemonClient
from orchestrator.cli.support.bundle import Bundle

_DOCUMENTS: Mapping[str, tuple[str, str]] = {
    "daemon/overview.json": ("/v1/overview", "checks, counts, pools with their guards, sources, alarms"),
    "daemon/pools.json": ("/v1/pools", "pools as they are configured and how full they are"),
    "daemon/sources.json": ("/v1/sources", "sources: stage, failures, calls"),
    "daemon/keys.json": ("/v1/keys", "signing keys by id and state, nothing private"),
}
_OF_JOB: Mapping[str, tuple[str, str]] = {
    "job": ("", "the job"),
    "why": ("/why", "why it ended"),
    "trace": ("/trace", "its trace"),
}
_LIVE_JOBS = 1000


def add_daemon(bundle: Bundle, client: DaemonClient) -> None:
    """Each document by itself: a daemon that fails at one may answer the others."""
    for name, (path, what) in _DOCUMENTS.items():
        bundle.add_json(name, what, partial(client.read, path))
    bundle.add_json("daemon/jobs.json", "unfinished and newest jobs in one line each", lambda: _jobs(client))
    bundle.add_text("daemon/metrics.txt", "every metric as it was scraped", lambda: client.read_text("/metrics"))
    bundle.add_text(
        "daemon/audit-checkpoint.txt", "the newest signed checkpoint of the audit log",
        lambda: client.read_text("/v1/audit/checkpoint"),
    )  # fmt: skip


def add_remote_jobs(bundle: Bundle, client: DaemonClient, jobs: int) -> None:
    """The last jobs that failed, for a daemon whose journal is on another machine."""
    for job_id in _failed(client, jobs):
        if "/" in job_id or job_id.startswith("."):
            continue  # no id of ours: whoever unpacks the bundle would find it elsewhere
        path = f"/v1/jobs/{quote(job_id, safe='')}"
        for name, (part, what) in _OF_JOB.items():
            bundle.add_json(f"jobs/{job_id}/{name}.json", what, partial(client.read, path + part))


def _jobs(client: DaemonClient) -> dict[str, Any]:
    return client.read("/v1/live/jobs", {"limit": str(_LIVE_JOBS)})


def _failed(client: DaemonClient, jobs: int) -> Iterator[str]:
    for result in ("error", "timeout", "failure", "denied"):
        for line in client.jobs(limit=jobs, result=result):
            yield str(line["id"])
            jobs -= 1
        if jobs <= 0:
            return
