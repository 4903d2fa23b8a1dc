"""The relay between jobs that speak real OTLP (or try to cheat) and a real receiver."""

import asyncio
import contextlib
import gzip
import os
import sys
import time
import tracemalloc

import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.redact import Masker
from orchestrator.model.events import SpansRelayed
from orchestrator.model.record import begin
from orchestrator.telemetry import ids
from orchestrator.telemetry.otlp_http import OtlpClient, Receiver
from orchestrator.telemetry.platform_trace import PlatformTrace
from orchestrator.telemetry.relay import JobSpanRelay, RelayLimits, relay_answer
from orchestrator.testing.otlp import Fault, OtlpReceiver
from orchestrator.testing.stories import facts_for, offer

JOB = offer().key.id
NOW = time.time_ns()
EXECUTE = bytes.fromhex(ids.span_id(JOB, "execute"))


@contextlib.asynccontextmanager
async def relaying(receiver: OtlpReceiver, **options):
    client = OtlpClient(Receiver(receiver.endpoint, timeout_seconds=2))
    try:
        yield JobSpanRelay(client, **options)
    finally:
        await client.close()


def span(number: int = 1, **fields) -> Span:
    return Span(
        **{
            "trace_id": bytes.fromhex(ids.trace_id(JOB)),
            "span_id": number.to_bytes(8, "big"),
            "parent_span_id": EXECUTE,
            "name": "test",
            "start_time_unix_nano": NOW,
            "end_time_unix_nano": NOW + 5,
        }
        | fields
    )


def request(*spans: Span, resource: Resource | None = None) -> bytes:
    group = ResourceSpans(resource=resource or Resource(), scope_spans=[ScopeSpans(spans=spans)])
    return ExportTraceServiceRequest(resource_spans=[group]).SerializeToString()


def text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


async def test_good_spans_pass_under_a_mark_that_they_are_a_strangers_word() -> None:
    resource = Resource(
        attributes=[text("service.name", "pytest"), text("orchestrator.untrusted", "no"), text("os", "linux")]
    )
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        sent = request(span(1), span(2, parent_span_id=(1).to_bytes(8, "big")), resource=resource)
        assert await relay.relay(JOB, sent) == SpansRelayed(2, 0)
        assert [one.parent_span_id for one in receiver.spans] == [EXECUTE, (1).to_bytes(8, "big")]
        (stamped,) = receiver.resources
        values = {pair.key: pair.value for pair in stamped.attributes}
        assert values["service.name"].string_value == "pytest"
        assert values["orchestrator.job.id"].string_value == JOB
        assert values["orchestrator.untrusted"].bool_value is True
        assert values["os"].string_value == "linux"


async def test_spans_go_on_in_the_platforms_trace_where_traces_are_joined() -> None:
    theirs = PlatformTrace("ab" * 16, "cd" * 8, frozenset(("cd" * 8, "ef" * 8)))
    joined = bytes.fromhex(theirs.trace_id)
    spans = [
        *(span(1), span(2, trace_id=joined, parent_span_id=bytes.fromhex(theirs.span_id))),
        *(span(span_id=bytes.fromhex(taken), trace_id=joined) for taken in theirs.taken),
        span(3, trace_id=b"\7" * 16),
    ]
    async with OtlpReceiver() as receiver, relaying(receiver, joined=lambda _: theirs) as relay:
        assert await relay.relay(JOB, request(*spans)) == SpansRelayed(2, 3)
        assert [(one.trace_id, one.parent_span_id) for one in receiver.spans] == [(joined, EXECUTE), (joined, EXECUTE)]


async def test_gzip_passes_whether_or_not_the_server_has_inflated_it() -> None:
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        assert await relay.relay(JOB, gzip.compress(request(span(1))), "gzip") == SpansRelayed(1, 0)
        assert await relay.relay(JOB, request(span(2)), "gzip") == SpansRelayed(1, 0)


async def test_spans_that_are_not_the_jobs_own_or_pose_as_ours_are_refused() -> None:
    other = bytes.fromhex(ids.trace_id(offer("43").key.id))
    bad = [
        span(trace_id=other),
        span(trace_id=b""),
        span(span_id=b"\0" * 8),
        span(span_id=b"\1" * 7),
        span(parent_span_id=b"\1" * 3),
        span(start_time_unix_nano=0),
        span(end_time_unix_nano=NOW - 1),
        span(end_time_unix_nano=NOW + 86_400 * 10**9),
        *(
            span(span_id=bytes.fromhex(ids.span_id(JOB, *taken)))
            for taken in [("job",), ("execute",), ("verify",), ("provision", 7), ("identity.exchange", 511)]
        ),
    ]
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        assert await relay.relay(JOB, request(*bad)) == SpansRelayed(0, len(bad))
        assert receiver.calls == 0
        assert await relay.relay(JOB, request(*bad, span(9))) == SpansRelayed(1, len(bad))
        assert [one.span_id for one in receiver.spans] == [(9).to_bytes(8, "big")]


async def test_a_span_cannot_hang_itself_above_the_jobs_work() -> None:
    root = bytes.fromhex(ids.span_id(JOB, "job"))
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        await relay.relay(JOB, request(span(1, parent_span_id=root), span(2, parent_span_id=b"")))
        assert {one.parent_span_id for one in receiver.spans} == {EXECUTE}


async def test_everything_in_a_span_is_bounded_and_only_what_is_known_passes() -> None:
    deep = AnyValue(kvlist_value=KeyValueList(values=[text("a", "b")]))
    listed = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x"), deep, AnyValue(int_value=3)]))
    attributes = [text(f"k{n}", "v" * 5000) for n in range(100)]
    attributes[:0] = [
        text("orchestrator.pool", "fake"),
        KeyValue(key="deep", value=deep),
        KeyValue(key="list", value=listed),
    ]
    event = Span.Event(time_unix_nano=NOW, name="e" * 5000, attributes=attributes)
    big = span(name="n" * 5000, attributes=attributes, events=[event] * 40, trace_state="a=b", kind=3)
    limits = RelayLimits(request_bytes=1 << 30)
    async with OtlpReceiver() as receiver, relaying(receiver, limits=limits) as relay:
        assert await relay.relay(JOB, request(big)) == SpansRelayed(1, 0)
        (got,) = receiver.spans
    keys = [pair.key for pair in got.attributes]
    assert len(keys) == 64
    assert "deep" not in keys
    assert not any(key.startswith("orchestrator.") for key in keys)
    (kept,) = [pair.value for pair in got.attributes if pair.key == "list"]
    assert [value.WhichOneof("value") for value in kept.array_value.values] == ["string_value", "int_value"]
    assert max(len(pair.value.string_value) for pair in got.attributes) == 1024
    assert len(got.name) == 1024
    assert len(got.events) == 32
    assert got.dropped_events_count == 8
    assert got.trace_state == ""
    assert got.kind == 3


async def test_known_secrets_are_masked() -> None:
    def mask(text: str) -> str:
        return text.replace("s3cret", "[masked]")

    async with OtlpReceiver() as receiver, relaying(receiver, redact=mask) as relay:
        resource = Resource(attributes=[text("service.name", "s3cret")])
        poisoned = span(1, name="s3cret", attributes=[text("s3cret", "a s3cret")])
        await relay.relay(JOB, request(poisoned, resource=resource))
        assert b"[masked]" in receiver.bodies[0]
        assert b"s3cret" not in receiver.bodies[0]


async def test_a_secret_is_masked_before_a_cut_could_halve_it() -> None:
    secret = "hunter2-" + "s" * 40
    long = "x" * (RelayLimits().string_chars - 20) + secret
    masker = Masker()
    masker.register(JOB, secret)
    async with OtlpReceiver() as receiver, relaying(receiver, redact=masker.text) as relay:
        await relay.relay(JOB, request(span(name=long, attributes=[text("note", long), text(long, "x")])))
        (got,) = receiver.spans
        assert "hunter2" not in str(got)
        assert got.name.endswith("x***")


async def test_a_job_has_a_bounded_number_of_spans() -> None:
    limits = RelayLimits(spans_per_request=3, spans_per_job=5)
    async with OtlpReceiver() as receiver, relaying(receiver, limits=limits) as relay:
        many = [span(number) for number in range(1, 11)]
        assert await relay.relay(JOB, request(*many)) == SpansRelayed(3, 7)
        assert await relay.relay(JOB, request(*many)) == SpansRelayed(2, 8)
        assert await relay.relay(JOB, request(*many)) == SpansRelayed(0, 10)
        assert len(receiver.spans) == 5


async def test_a_job_has_a_bounded_number_of_bytes_until_it_is_forgotten() -> None:
    body = request(span(1))
    async with OtlpReceiver() as receiver, relaying(receiver, limits=RelayLimits(bytes_per_job=len(body))) as relay:
        assert (await relay.relay(JOB, body)).accepted == 1
        with pytest.raises(GiveUpError):
            await relay.relay(JOB, body)
        assert (await relay.relay(offer("43").key.id, body)).refused == 1
        await relay.revoke(begin(facts_for(offer(), [])[0]))
        assert (await relay.relay(JOB, body)).accepted == 1


@pytest.mark.parametrize(
    ("body", "encoding", "reason"),
    [
        (b"\xff\xff\xff", "", "spans_invalid"),
        (b"{}", "", "spans_invalid"),
        (b"\x1f\x8b broken", "gzip", "spans_invalid"),
        (b"\0" * ((1 << 20) + 1), "", "spans_too_large"),
        (gzip.compress(b"\0" * (64 << 20)), "gzip", "spans_too_large"),
        (b"\x0a\0" * 500_000, "", "spans_too_large"),
    ],
)
async def test_hostile_bodies_are_refused_with_a_reason(body: bytes, encoding: str, reason: str) -> None:
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        with pytest.raises(GiveUpError) as caught:
            await relay.relay(JOB, body, encoding)
        assert caught.value.reason == reason
        assert receiver.calls == 0


async def test_a_flood_of_empty_spans_is_counted_and_goes_nowhere() -> None:
    flood = request(*(Span() for _ in range(250_000)))
    assert len(flood) < 1 << 20
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        assert await relay.relay(JOB, flood) == SpansRelayed(0, 250_000)
        assert receiver.calls == 0


async def test_a_gzip_bomb_is_not_inflated() -> None:
    bomb = gzip.compress(b"\0" * (256 << 20))
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        tracemalloc.start()
        try:
            with pytest.raises(GiveUpError):
                await relay.relay(JOB, bomb, "gzip")
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()


async def test_a_receiver_that_is_busy_is_for_the_jobs_sdk_to_try_again() -> None:
    async with OtlpReceiver() as receiver, relaying(receiver) as relay:
        receiver.faults.append(Fault.UNAVAILABLE)
        with pytest.raises(TryAgainError):
            await relay.relay(JOB, request(span(1)))
        assert await relay.relay(JOB, request(span(1))) == SpansRelayed(1, 0)


def test_the_answer_tells_what_was_refused() -> None:
    answer = ExportTraceServiceResponse.FromString(relay_answer(SpansRelayed(3, 2)))
    assert answer.partial_success.rejected_spans == 2
    assert relay_answer(SpansRelayed(3, 0)) == b""


@contextlib.asynccontextmanager
async def runner_api(relay: JobSpanRelay):
    """The runner API's one route that matters here, as the daemon serves it."""

    async def traces(http: web.Request) -> web.Response:
        relayed = await relay.relay(JOB, await http.read(), http.headers.get("Content-Encoding", ""))
        return web.Response(body=relay_answer(relayed), content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", traces)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    finally:
        await runner.cleanup()


async def test_what_the_opentelemetry_sdk_sends_lands_below_the_jobs_execute_span() -> None:
    async with OtlpReceiver() as receiver, relaying(receiver) as relay, runner_api(relay) as url:

        def job() -> None:
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(url)))
            context = TraceContextTextMapPropagator().extract({"traceparent": ids.traceparent(JOB)})
            with provider.get_tracer("job").start_as_current_span("compile", context=context):
                pass
            provider.shutdown()

        await asyncio.to_thread(job)
        (got,) = receiver.spans
        assert (got.name, got.trace_id.hex(), got.parent_span_id) == ("compile", ids.trace_id(JOB), EXECUTE)


async def test_pytest_inside_a_job_reports_its_tests_into_the_jobs_trace(tmp_path) -> None:
    (tmp_path / "test_it.py").write_text("def test_one(): pass\n")
    async with OtlpReceiver() as receiver, relaying(receiver) as relay, runner_api(relay) as url:
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "PYTEST_", "COV_"))
        }
        environment = inherited | {"TRACEPARENT": ids.traceparent(JOB), "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}
        environment |= {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--export-traces", "test_it.py",
            cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()
        assert {got.trace_id.hex() for got in receiver.spans} == {ids.trace_id(JOB)}
        assert EXECUTE in {got.parent_span_id for got in receiver.spans}
        assert any("test_one" in got.name for got in receiver.spans)
