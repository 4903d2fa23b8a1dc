"""The exporter against a real receiver over HTTP: every outcome, every fault, and a kill at the worst moment."""

import asyncio
import contextlib
import json
from collections.abc import Sequence

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.model.events import Fact, JobEnded
from orchestrator.model.job import JobId
from orchestrator.telemetry import ids
from orchestrator.telemetry.export import ExportOptions, TraceExporter
from orchestrator.telemetry.otlp_http import Receiver
from orchestrator.testing.otlp import Fault, OtlpReceiver
from orchestrator.testing.stories import MARKER, WHOLE, facts_for, offer

RESOURCE = {"service.name": "orchestrator", "service.version": "0", "service.instance.id": "daemon-1"}


class Outbox:
    """Facts and the outbox as the journal keeps them; `fail_marks` loses that many notes of success."""

    def __init__(self, *jobs: Sequence[Fact], fail_marks: int = 0) -> None:
        self.facts = {facts[0].job_id: facts for facts in jobs}
        self.pending = list(self.facts)
        self.fail_marks = fail_marks
        self.emptied = asyncio.Event()

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        if not self.facts[job_id]:
            raise GiveUpError("damaged", reason="journal_corrupt")
        return self.facts[job_id]

    async def pending_traces(self, limit: int) -> Sequence[JobId]:
        return self.pending[:limit]

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None:
        if self.fail_marks:
            self.fail_marks -= 1
            raise TryAgainError("disk full", reason="journal_unavailable")
        self.pending = [job_id for job_id in self.pending if job_id not in job_ids]
        if not self.pending:
            self.emptied.set()


def job(number: int = 42, story: str = "success") -> list[Fact]:
    return facts_for(offer(str(number)), WHOLE[story])


@contextlib.asynccontextmanager
async def exporting(outbox: Outbox, endpoint: str | None, flush_seconds: float = 5, **options):
    receiver = Receiver(endpoint, timeout_seconds=2) if endpoint else None
    fast = {"interval_seconds": 0.02, "first_retry_seconds": 0.01, "longest_retry_seconds": 0.05} | options
    exporter = TraceExporter(outbox, ExportOptions(receiver, **fast), RESOURCE)
    exporter.start()
    try:
        yield exporter
    finally:
        await exporter.stop(flush_seconds)


async def emptied(outbox: Outbox) -> None:
    async with asyncio.timeout(10):
        await outbox.emptied.wait()


def attributes(span) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


@pytest.mark.parametrize("story", WHOLE)
async def test_the_receiver_gets_one_whole_tree_for_each_outcome(story: str) -> None:
    outbox = Outbox(job(story=story))
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        spans = {span.span_id: span for span in receiver.spans}
        assert len(spans) == len(receiver.spans)
        assert {span.trace_id.hex() for span in spans.values()} == {ids.trace_id(offer().key.id)}
        (root,) = [span for span in spans.values() if not span.parent_span_id]
        for span in spans.values():
            parent = spans.get(span.parent_span_id, root)
            assert parent.start_time_unix_nano <= span.start_time_unix_nano
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano <= parent.end_time_unix_nano
        outcome = next(event.outcome for event in WHOLE[story] if isinstance(event, JobEnded))
        assert attributes(root)["orchestrator.job.result"] == outcome.result.value
        assert attributes(root).get("error.type", outcome.reason.value) == outcome.reason.value
        assert root.kind == Span.SPAN_KIND_SERVER
        assert {record.span_id for record in receiver.logs} <= set(spans)
        assert {record.trace_id for record in receiver.logs} <= {root.trace_id}
        resources = [{pair.key: pair.value.string_value for pair in one.attributes} for one in receiver.resources]
        assert resources == [RESOURCE]


async def test_a_job_is_sent_in_one_request_and_many_jobs_in_few() -> None:
    outbox = Outbox(*(job(number) for number in range(150)))
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert len(receiver.trace_requests) == 3
        assert exporter.counts.exported == 150
        assert exporter.counts.depth == 0
        assert len({span.span_id for span in receiver.spans}) == len(receiver.spans) == 150 * 11
        assert len({str(record.attributes) for record in receiver.logs}) == len(receiver.logs) == 150 * 3


async def test_requests_are_bounded_in_bytes() -> None:
    outbox = Outbox(*(job(number) for number in range(10)))
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint, batch_bytes=1):
            await emptied(outbox)
        assert len(receiver.trace_requests) == 10


@pytest.mark.parametrize("fault", [Fault.TOO_MANY, Fault.UNAVAILABLE, Fault.RESET, Fault.SLOW])
async def test_a_passing_fault_delays_and_loses_nothing(fault: Fault) -> None:
    outbox = Outbox(job())
    async with OtlpReceiver(slow_seconds=0.05) as receiver:
        receiver.trace_faults.extend([fault] * 6)
        receiver.log_faults.extend([fault] * 6)
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        assert len(receiver.spans) == 11
        assert len(receiver.logs) == 3


async def test_retry_after_is_obeyed() -> None:
    outbox = Outbox(job())
    async with OtlpReceiver(retry_after_seconds=1) as receiver:
        receiver.trace_faults.append(Fault.TOO_MANY)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        assert loop.time() - begun >= 1


async def test_an_answer_that_gets_lost_means_the_same_ids_again() -> None:
    outbox = Outbox(job())
    async with OtlpReceiver() as receiver:
        receiver.trace_faults.append(Fault.KEPT_RESET)
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        first, second = receiver.trace_requests
        assert first.SerializeToString() == second.SerializeToString()


async def test_killed_between_taken_and_noted_the_next_daemon_sends_the_same_ids() -> None:
    outbox = Outbox(job(), fail_marks=1)
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint, interval_seconds=30, flush_seconds=0) as killed:
            await receiver.wait_for_spans(11)
            await receiver.wait_for_calls(2)
            while outbox.fail_marks:
                await asyncio.sleep(0)
            killed._task.cancel()  # no flush: the process is gone
        assert outbox.pending == [offer().key.id]
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        first, second = receiver.trace_requests
        assert [span.span_id for span in receiver.spans[:11]] == [span.span_id for span in receiver.spans[11:]]
        assert first.SerializeToString() == second.SerializeToString()
        uids = [attributes(record)["log.record.uid"] for record in receiver.logs]
        assert len(uids) == 6
        assert uids[:3] == uids[3:]


async def test_a_note_that_fails_is_repeated_without_sending_the_spans_again() -> None:
    outbox = Outbox(job(), fail_marks=3)
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint):
            await emptied(outbox)
        assert len(receiver.trace_requests) == 1


async def test_a_receiver_that_is_down_and_comes_back_gets_everything() -> None:
    receiver = OtlpReceiver()
    await receiver.start()
    await receiver.stop()
    outbox = Outbox(job(1), job(2))
    async with exporting(outbox, receiver.endpoint, attempts=1) as exporter:
        async with asyncio.timeout(10):
            while exporter.counts.failed_passes < 2:
                await asyncio.sleep(0.01)
        assert exporter.counts.depth == 2
        await receiver.start()
        await emptied(outbox)
    await receiver.stop()
    assert len(receiver.spans) == 22
    assert exporter.counts.depth == 0


async def test_partial_success_is_counted_and_not_repeated() -> None:
    outbox = Outbox(job())
    async with OtlpReceiver() as receiver:
        receiver.trace_faults.append(Fault.PARTIAL)
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert len(receiver.trace_requests) == 1
        assert exporter.counts.rejected_items == 1
        whole = len(receiver.logs)
        receiver.log_faults.append(Fault.PARTIAL)
        outbox = Outbox(job())
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert exporter.counts.rejected_items == 1
        assert len(receiver.logs) == 2 * whole - 1


async def test_one_trace_that_is_refused_for_ever_does_not_hold_the_others() -> None:
    outbox = Outbox(job(1), job(2), job(3))
    async with OtlpReceiver() as receiver:
        receiver.trace_faults.extend([Fault.BAD_REQUEST, Fault.BAD_REQUEST])  # all three, then the first alone
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert exporter.counts.refused == 1
        assert {span.trace_id.hex() for span in receiver.spans} == {ids.trace_id(offer(n).key.id) for n in "23"}


async def test_damaged_facts_of_one_job_do_not_hold_the_others() -> None:
    outbox = Outbox(job(1)[3:], job(2), job(3))
    outbox.facts[offer("3").key.id] = []
    async with OtlpReceiver() as receiver:
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert exporter.counts.refused == 2
        assert len(receiver.spans) == 11


async def test_what_is_refused_for_ever_counts_once_however_often_the_rest_is_tried() -> None:
    outbox = Outbox(job(1), job(2), fail_marks=3)
    outbox.facts[offer("1").key.id] = []
    async with OtlpReceiver() as receiver:
        receiver.trace_faults.append(Fault.BAD_REQUEST)
        receiver.log_faults.append(Fault.BAD_REQUEST)
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert exporter.counts.failed_passes == 3
        assert (exporter.counts.refused, exporter.counts.refused_events, receiver.spans) == (2, 1, [])


async def test_events_of_one_job_that_are_refused_for_ever_do_not_take_those_of_others_with_them() -> None:
    outbox = Outbox(job(1), job(2), job(3))
    async with OtlpReceiver() as receiver:
        receiver.log_faults.extend([Fault.BAD_REQUEST, Fault.BAD_REQUEST])  # all three, then the first alone
        async with exporting(outbox, receiver.endpoint) as exporter:
            await emptied(outbox)
        assert exporter.counts.refused_events == 1
        assert {log.trace_id.hex() for log in receiver.logs} == {ids.trace_id(offer(n).key.id) for n in "23"}


async def test_a_receiver_of_traces_only_is_enough() -> None:
    outbox = Outbox(*(job(number) for number in range(3)))
    async with OtlpReceiver() as receiver:
        receiver.log_faults.extend([Fault.NOT_FOUND] * 3)
        async with exporting(outbox, receiver.endpoint, batch_jobs=1):
            await emptied(outbox)
        assert len(receiver.spans) == 33
        assert receiver.logs == []
        assert len(receiver.log_faults) == 2


async def test_a_wrong_address_keeps_the_traces_and_complains_once() -> None:
    outbox = Outbox(job())
    async with OtlpReceiver() as receiver:
        receiver.trace_faults.extend([Fault.NOT_FOUND] * 3)
        with structlog.testing.capture_logs() as lines:
            async with exporting(outbox, receiver.endpoint):
                await emptied(outbox)
        assert [line["reason"] for line in lines if line["event"] == "trace.export_failed"] == ["otlp_endpoint_refused"]
        assert len(receiver.spans) == 11


async def test_without_a_receiver_the_outbox_is_emptied() -> None:
    outbox = Outbox(job())
    async with exporting(outbox, None) as exporter:
        await emptied(outbox)
    assert exporter.counts.exported == 0


async def test_stop_sends_what_is_left_but_not_for_ever() -> None:
    outbox = Outbox()
    async with OtlpReceiver(slow_seconds=1) as receiver:
        async with exporting(outbox, receiver.endpoint, interval_seconds=60):
            await asyncio.sleep(0)
            outbox.facts[offer().key.id] = job()
            outbox.pending.append(offer().key.id)
        assert outbox.pending == []
        assert len(receiver.spans) == 11

        outbox.pending.append(offer().key.id)
        receiver.trace_faults.extend([Fault.SLOW] * 9)
        begun = asyncio.get_running_loop().time()
        async with exporting(outbox, receiver.endpoint, interval_seconds=60, flush_seconds=0.2):
            pass
        assert asyncio.get_running_loop().time() - begun < 0.9
        assert outbox.pending == [offer().key.id]


async def test_nothing_secret_leaves() -> None:
    known = "s3cr3t-t0ken"
    facts = [facts_for(offer(str(n), name=f"build {known}"), steps) for n, steps in enumerate(WHOLE.values())]
    outbox = Outbox(*facts)
    async with OtlpReceiver() as receiver:
        options = ExportOptions(Receiver(receiver.endpoint))
        exporter = TraceExporter(outbox, options, RESOURCE, redact=lambda text: text.replace(known, "[masked]"))
        exporter.start()
        await exporter.stop()
        sent = b"".join(receiver.bodies)
        assert outbox.pending == []
    assert b"RUN build [masked]" in sent
    assert MARKER.encode() not in sent
    assert known.encode() not in sent


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://x", "http://", "http://x?y=1"])
def test_a_bad_endpoint_is_a_configuration_error(endpoint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Receiver(endpoint)
    assert caught.value.reason == "otlp_endpoint_invalid"
    assert json.dumps(caught.value.fix)
