"""Settings of traces, and of metrics where they are chosen."""

from __future__ import annotations

from pydantic import Field

from orchestrator.settings.fields import Group, Seconds


class TelemetrySettings(Group):
    otlp_endpoint: str = ""
    """Base URL of an OTLP/HTTP receiver, e.g. `http://127.0.0.1:4318`; empty keeps traces in the journal."""
    relay_job_spans: bool = True
    """Jobs may send spans of their own trace through the runner API; needs an endpoint."""
    export_interval_seconds: Seconds = 1
    """Time between two looks at the outbox of finished traces."""
    metric_pipelines: tuple[str, ...] = Field(default=(), max_length=64)
    """Names of dispatched runs that the metrics `cicd_pipeline_run_*` tell apart; any other counts as `other`."""
    join_platform_trace: bool = False
    """Send the trace of a GitHub job into the trace that OpenTelemetry's GitHub receiver makes of its workflow run,
    below that receiver's span of the job. Off by default: without that receiver such a trace has no beginning. Either
    way the trace is linked to it, and has no span id that the receiver uses."""
