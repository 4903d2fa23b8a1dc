"""From a job to a trace page, through programs that nobody here wrote: daemon, Rotel, Phoenix, Chromium."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from collector import CALM, RESOURCE, ROOT, browser, missing, page, phoenix, rotel, smaller
from held_opa import bundle_of
from installation import Installation
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from witness import Witness

from orchestrator.model.job import JobId
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.traces import ReceivedTrace, attributes_of

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(330), pytest.mark.skipif(bool(missing()), reason=missing())]

CLOUD = "https://cloud.example"
SCRIPT = f"""visit started
orchestrator-token --audience {CLOUD} > /dev/null
"$PYTHON" -I -S -c 'import http.client, os
connection = http.client.HTTPConnection(*os.environ["http_proxy"].removeprefix("http://").split(":"), timeout=20)
connection.request("GET", "http://forbidden.example/")
connection.getresponse()'
sleep 1
echo wheel > wheel; orchestrator-artifact wheel
visit done
"""
PICTURE = ROOT / "build" / "collector" / "trace-in-phoenix.png"
KEPT = ROOT / "docs" / "pictures" / "trace-in-phoenix.png"
"""What the browser showed; KEEP_PICTURE=1 puts it into the documentation."""


async def test_a_jobs_trace_arrives_whole_and_can_be_looked_at(
    here: Installation, witness: Witness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", RESOURCE)
    async with (
        OtlpReceiver() as logs,
        phoenix(tmp_path) as shown,
        rotel(tmp_path, shown.url, logs.endpoint) as collector,
    ):
        here.configure(collector, identity={"audiences": {CLOUD: {}}}, policy={"bundle": str(bundle_of(tmp_path))})
        await here.start()
        green = await here.dispatch("build-and-test", SCRIPT)
        red = await here.dispatch("flaky", "exit 3")
        for job_id in (green, red):
            view = await here.finished(job_id)
            told = (await here.call("GET", f"/v1/jobs/{job_id}/trace")).body
            spans = await _arrived(shown, told)
            assert _as_told(spans) == {span["span_id"]: _told(span) for span in told["spans"]}, "to the microsecond"
            trace = ReceivedTrace(JobId(job_id), spans)
            assert attributes_of(trace.root.attributes)["orchestrator.job.result"] == view["result"]
            assert [span.status.code == Status.STATUS_CODE_ERROR for span in (trace.root, trace.one("execute"))] == (
                [view["result"] == "failure"] * 2
            )
            await _logs_arrived(logs, told)
        told = (await here.call("GET", f"/v1/jobs/{green}/trace")).body
        assert await here.stop() == 0
        await _look(shown, tmp_path, await shown.page_of(told["trace_id"]), _names(told))


async def _arrived(shown: Any, told: dict[str, Any]) -> list[Span]:
    """The spans of a trace, once as many are there as the API tells of."""
    async with asyncio.timeout(60):
        while len(spans := await shown.spans(told["trace_id"])) < len(told["spans"]):
            await asyncio.sleep(0.2)
    return spans


async def _logs_arrived(logs: OtlpReceiver, told: dict[str, Any]) -> None:
    """The log-based events, which a collector sends where logs go."""
    wanted = sorted(event["name"] for span in told["spans"] for event in span["events"])
    async with asyncio.timeout(30):
        while True:
            got = sorted(log.event_name for log in logs.logs if log.trace_id.hex() == told["trace_id"])
            if len(got) >= len(wanted):
                break
            await logs.wait_for_calls(logs.calls + 1, 30)
    assert got == wanted


def _as_told(spans: list[Span]) -> dict[str, tuple[Any, ...]]:
    assert len({span.span_id for span in spans}) == len(spans)
    return {
        span.span_id.hex(): (
            span.name,
            span.parent_span_id.hex() or None,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.status.code == Status.STATUS_CODE_ERROR,
        )
        for span in spans
    }


def _told(span: dict[str, Any]) -> tuple[Any, ...]:
    """What the API says of a span; Phoenix keeps microseconds, and rounds."""
    times = (pytest.approx(span["start_ns"], abs=1000, rel=0), pytest.approx(span["end_ns"], abs=1000, rel=0))
    return (span["name"], span["parent_span_id"], *times, span["status"] == "error")


def _names(told: dict[str, Any]) -> set[str]:
    return {span["name"] for span in told["spans"] if span["parent_span_id"]}


async def _look(shown: Any, folder: Path, url: str, names: set[str]) -> None:
    """A person's look: every span's name is on the page."""
    assert browser(), "needs chromium"
    async with page(folder, url, 1180, 1260, CALM) as seen:
        async with asyncio.timeout(60):
            while missing_names := [name for name in names if name not in await seen.text()]:
                await asyncio.sleep(0.3)
        assert missing_names == []
        await asyncio.sleep(1)  # what slides in has come to rest
        PICTURE.write_bytes(await seen.picture())
    smaller(PICTURE)
    assert PICTURE.stat().st_size < 200_000
    if os.environ.get("KEEP_PICTURE"):
        shutil.copyfile(PICTURE, KEPT)
