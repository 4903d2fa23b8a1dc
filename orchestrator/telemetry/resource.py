"""What our traces say about the daemon that sent them."""

from __future__ import annotations

from opentelemetry.sdk.resources import OTELResourceDetector

from orchestrator.telemetry import semconv
from orchestrator.telemetry.records import Attributes, bounded, clip


def daemon_resource(version: str, instance: str) -> Attributes:
    """Resource attributes of this daemon; `instance` differs after each start.

    Operators add their own by OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME (OpenTelemetry specification,
    *Resource SDK*), as for any other program of theirs. Version and instance are ours alone to say.
    """
    given = {
        key: clip(value) if isinstance(value, str) else value
        for key, value in OTELResourceDetector().detect().attributes.items()
        if isinstance(value, str | bool | int | float)
    }
    ours = {semconv.SERVICE_VERSION: version, semconv.SERVICE_INSTANCE_ID: instance}
    return bounded({semconv.SERVICE_NAME: "orchestrator", **given, **ours})
