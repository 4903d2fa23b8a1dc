"""The work as the agent gets it: the answer to a claim, made from the record alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.model.record import Record


@dataclass(frozen=True, slots=True)
class RunnerEndpoints:
    """What a runner reaches, as seen from inside it. `otlp` says whether it may send spans."""

    api_url: str = "http://127.0.0.1:3129"
    proxy_url: str = "http://127.0.0.1:3128"
    token_file: str = "/run/orchestrator/token"  # noqa: S105 -- a path
    otlp: bool = False


def work_document(
    record: Record, endpoints: RunnerEndpoints, *, traceparent: str, max_job_seconds: int
) -> dict[str, Any]:
    """The answer to a successful claim. It holds no credential: the runner has its token already."""
    spec = record.offer.spec
    base = endpoints.api_url
    return {
        "job": {
            "id": record.id,
            "name": spec.name,
            "attempt": record.offer.key.attempt,
            "script": spec.script,
            "environment": dict(spec.environment),
            "timeout_seconds": timeout_seconds(record, max_job_seconds),
        },
        "traceparent": traceparent,
        "proxy_url": endpoints.proxy_url,
        "exchange_url": f"{base}/runner/v1/token",
        "artifacts_url": f"{base}/runner/v1/artifacts",
        "token_file": endpoints.token_file,
        "otlp_endpoint": f"{base}/runner" if endpoints.otlp else "",
    }


def timeout_seconds(record: Record, max_job_seconds: int) -> int:
    """The shortest of the pool's limit, the job's wish and what policy allowed."""
    limits = [max_job_seconds, record.offer.spec.timeout_seconds, record.obligations.max_duration_seconds or 0]
    return min(limit for limit in limits if limit > 0)
