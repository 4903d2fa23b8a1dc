"""A stock OpenTelemetry SDK in the job's environment, with no setting of its own, sends its spans where they belong."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.agent.main import environment
from orchestrator.testing.otlp import OtlpReceiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROGRAM = """
import os
from opentelemetry import propagate, trace
from opentelemetry.sdk._configuration import _initialize_components

_initialize_components()
context = propagate.extract({"traceparent": os.environ["TRACEPARENT"]})
with trace.get_tracer("stock").start_as_current_span("work", context=context):
    pass
trace.get_tracer_provider().shutdown()
"""


async def test_spans_arrive_without_configuration():
    async with OtlpReceiver() as receiver:
        work = {
            "job": {"id": "dispatch.x.1", "name": "build", "script": ""},
            "traceparent": f"00-{TRACE}-{PARENT}-01",
            "proxy_url": "http://127.0.0.1:9",  # nothing listens: a span that took the proxy would be lost
            "exchange_url": "",
            "artifacts_url": "",
            "token_file": "",
            "otlp_endpoint": receiver.endpoint,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, env=environment(work), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
        (span,) = receiver.spans
        assert (span.trace_id.hex(), span.parent_span_id.hex(), span.name) == (TRACE, PARENT, "work")
        (group,) = receiver.trace_requests[0].resource_spans
        names = [pair.value.string_value for pair in group.resource.attributes if pair.key == "service.name"]
        assert names == ["build"]
