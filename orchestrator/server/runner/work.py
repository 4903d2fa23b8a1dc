"""The work as the agent gets it: the answer to a claim, made from the record alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.lifecycle.provision import run_limit_seconds
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record


@dataclass(frozen=True, slots=True)
class RunnerEndpoints:
    """What a runner reaches, as seen from inside it. `otlp` says whether it may send spans.

    In a cluster `proxy_url` and `otlp_headers` (the form of OTEL_EXPORTER_OTLP_HEADERS) hold the job's credential.
    """

    api_url: str = "http://127.0.0.1:3129"
    proxy_url: str = "http://127.0.0.1:3128"
    token_file: str = "/run/orchestrator/token"  # noqa: S105 -- a path
    otlp: bool = False
    otlp_headers: str = ""


def work_document(
    record: Record,
    pool: Pool,
    endpoints: RunnerEndpoints,
    traceparent: str,
    files: Mapping[str, str] | None = None,
    audience: str = "",
) -> dict[str, Any]:
    """The answer to a successful claim. It holds no runner credential: the runner has its token already.

    `files` are for the agent to write; the job finds those that are registered secrets by a variable for each. A runner
    whose platform names its job is told where to report it, and the `audience` that its platform's token must have to
    count here.
    """
    spec = record.offer.spec
    base = endpoints.api_url
    awaiting = {"job_url": f"{base}/runner/v1/job", "audience": audience} if spec.awaits_platform_job else {}
    named = {secret_variable(name): name for name in spec.secrets if files and name in files}
    return {
        **awaiting,
        **({"files": dict(files)} if files else {}),
        **({"file_variables": named} if named else {}),
        "job": {
            "id": record.id,
            "name": spec.name,
            "attempt": record.offer.key.attempt,
            "script": spec.script,
            "environment": dict(spec.environment),
            "timeout_seconds": run_limit_seconds(record, pool),
        },
        "traceparent": traceparent,
        "proxy_url": endpoints.proxy_url,
        "exchange_url": f"{base}/runner/v1/token",
        "artifacts_url": f"{base}/runner/v1/artifacts",
        "token_file": endpoints.token_file,
        "otlp_endpoint": f"{base}/runner" if endpoints.otlp else "",
        "otlp_headers": endpoints.otlp_headers if endpoints.otlp else "",
    }


def secret_variable(name: str) -> str:
    """The variable that tells a job where the file with this registered secret is."""
    return name.upper().replace("-", "_") + "_FILE"
