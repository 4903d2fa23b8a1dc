"""Sends the trace of each finished job, once it is finished, until the receiver has taken it.

The journal's outbox says which jobs; a job leaves it only on the receiver's own success. Killed between
*taken* and *noted*, the next daemon sends the very same ids again, which receivers merge.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from orchestrator.errors import ConfigurationError, GiveUpError, OrchestratorError, TryAgainError
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.record import MissingOfferError
from orchestrator.telemetry import encode, otlp_http
from orchestrator.telemetry.otlp_http import OtlpClient, Receiver
from orchestrator.telemetry.records import Attributes
from orchestrator.telemetry.spans import trace_of

_log = structlog.get_logger(__name__)


class TraceOutbox(Protocol):
    """The part of the journal that the exporter needs; see `orchestrator.journal.port.JournalReader`."""

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]: ...

    async def pending_traces(self, limit: int) -> Sequence[JobId]: ...

    async def trace_exported(self, job_ids: Sequence[JobId]) -> None: ...


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """`receiver` of None keeps traces in the journal only: the outbox is emptied without sending.

    `batch_jobs` and `batch_bytes` (before compression) bound a request, except that one job is never
    divided. `join` sends a trace into its platform's, where that is known.

    `attempts` are tries within one pass; the next pass, `interval_seconds` later, begins anew.
    """

    receiver: Receiver | None
    interval_seconds: float = 1
    batch_jobs: int = 64
    batch_bytes: int = 4 << 20
    attempts: int = 4
    first_retry_seconds: float = 0.5
    longest_retry_seconds: float = 30
    public_url: str = ""
    join: bool = False


@dataclass(slots=True)
class ExportCounts:
    """Since the start, in jobs, but `rejected_items` are spans and events. `depth` is the outbox as last looked at, and
    stops counting at 1000; `refused_events` are jobs whose events the receiver will never take."""

    depth: int = 0
    exported: int = 0
    refused: int = 0
    rejected_items: int = 0
    refused_events: int = 0
    failed_passes: int = 0


@dataclass(frozen=True, slots=True)
class _Encoded:
    job_id: JobId
    spans: bytes
    events: bytes


_LOOK = 1000


@dataclass(eq=False)
class TraceExporter:
    """Construct, `start()` on the event loop, `await stop(...)` at the end.

    `resource` are attributes of this daemon (`service.name`, `service.version`, `service.instance.id`);
    `redact` masks secrets in every string that leaves.
    """

    outbox: TraceOutbox
    options: ExportOptions
    resource: Attributes
    redact: encode.Redact = encode.unredacted
    counts: ExportCounts = field(default_factory=ExportCounts)

    def __post_init__(self) -> None:
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._client: OtlpClient | None = None
        self._settled: set[JobId] = set()
        """Still in the outbox, and their spans are taken or refused for good: not to be sent or counted once more."""
        self._eventless: set[JobId] = set()
        """The same of jobs whose events are refused for good."""
        self._logs_wanted = True
        self._complained = ""

    def start(self) -> None:
        """Begin to look at the outbox."""
        if self.options.receiver is not None:
            self._client = OtlpClient(self.options.receiver)
        self._task = asyncio.create_task(self._run(), name="trace-exporter")

    async def stop(self, flush_seconds: float = 5) -> None:
        """Send what is left, for at most `flush_seconds`, then stop. What was not sent waits in the outbox."""
        self._stopping.set()
        if self._task is not None:
            done, _ = await asyncio.wait({self._task}, timeout=flush_seconds)
            if not done:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._client is not None:
            await self._client.close()

    async def _run(self) -> None:
        while True:
            last = self._stopping.is_set()
            try:
                await self.export_pending()
                self._complained = ""
            except OrchestratorError as error:
                self._complain(error)
            except Exception:  # noqa: BLE001
                # A defect here must not end the exporter for good, and must not be silent either.
                _log.exception("trace.export_broke")
            if last:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.options.interval_seconds):
                    await self._stopping.wait()

    async def export_pending(self) -> int:
        """One pass over the outbox; returns how many jobs left it.

        Raises:
            TryAgainError: the receiver or the journal does not answer; the rest stays in the outbox.
            ConfigurationError: the receiver refuses us; the rest stays in the outbox.
        """
        pending = await self.outbox.pending_traces(_LOOK)
        self.counts.depth = len(pending)
        gone = 0
        for start in range(0, len(pending), self.options.batch_jobs):
            jobs = pending[start : start + self.options.batch_jobs]
            if self._client is not None:
                await self._send_jobs(self._client, jobs)
            await self.outbox.trace_exported(jobs)
            self._settled.difference_update(jobs)
            self._eventless.difference_update(jobs)
            gone += len(jobs)
            self.counts.depth = len(pending) - gone
        return gone

    async def _send_jobs(self, client: OtlpClient, jobs: Sequence[JobId]) -> None:
        facts = [(job_id, of_job) for job_id in jobs if (of_job := await self._facts_of(job_id)) is not None]
        encoded = await asyncio.to_thread(self._encode, facts)
        unsent = [job for job in encoded if job.job_id not in self._settled]
        for batch in _batches(unsent, self.options.batch_bytes):
            await self._send_spans(client, batch)
        if self._logs_wanted:
            unsent = [job for job in encoded if job.job_id not in self._eventless]
            for batch in _batches(unsent, self.options.batch_bytes):
                await self._send_events(client, batch)

    async def _facts_of(self, job_id: JobId) -> Sequence[Fact] | None:
        try:
            return await self.outbox.facts_of(job_id)
        except GiveUpError as error:
            self._refused(job_id, "trace.unreadable", error=error.reason)
            return None

    def _refused(self, job_id: JobId, how: str, **told: str) -> None:
        """One job that can never be sent must not keep the others from leaving, and counts once however often these
        have to be tried."""
        if job_id not in self._settled:
            self._settled.add(job_id)
            self.counts.refused += 1
            _log.error(how, job_id=job_id, **told)

    def _encode(self, facts: Sequence[tuple[JobId, Sequence[Fact]]]) -> list[_Encoded]:
        encoded = []
        for job_id, of_job in facts:
            try:
                trace = trace_of(of_job, public_url=self.options.public_url, join=self.options.join)
                spans = encode.encode_spans(trace.spans, self.resource, self.redact) if trace.spans else b""
                events = encode.encode_events(trace.events, self.resource, self.redact)
            except (MissingOfferError, ValueError, TypeError) as error:
                self._refused(job_id, "trace.unreadable", error=type(error).__name__)
                continue
            encoded.append(_Encoded(job_id, spans, events))
        return encoded

    async def _send_spans(self, client: OtlpClient, batch: Sequence[_Encoded]) -> None:
        body = b"".join(job.spans for job in batch)
        if not body:
            return
        try:
            answer = await self._post(client, otlp_http.TRACES, body)
        except ConfigurationError:
            raise
        except GiveUpError as error:
            if len(batch) > 1:  # find out which of them it is
                for job in batch:
                    await self._send_spans(client, [job])
                return
            self._refused(batch[0].job_id, "trace.refused", reason=error.reason, detail=str(error))
            return
        self.counts.exported += len(batch)
        self._settled.update(job.job_id for job in batch)
        self._left_out(encode.rejected_spans(answer), batch)

    async def _send_events(self, client: OtlpClient, batch: Sequence[_Encoded]) -> None:
        body = b"".join(job.events for job in batch)
        if not body or not self._logs_wanted:
            return
        try:
            answer = await self._post(client, otlp_http.LOGS, body)
            self._left_out(encode.rejected_events(answer), batch)
        except ConfigurationError as error:
            # A receiver of traces only (Jaeger) is a fine receiver; the events stay readable in the journal.
            self._logs_wanted = False
            _log.warning("trace.events_not_wanted", detail=str(error))
        except GiveUpError as error:
            if len(batch) > 1:
                for job in batch:
                    await self._send_events(client, [job])
                return
            self._eventless.add(batch[0].job_id)
            self.counts.refused_events += 1
            _log.error("trace.events_refused", job_id=batch[0].job_id, detail=str(error))

    def _left_out(self, rejected: int, batch: Sequence[_Encoded]) -> None:
        """Partial success may not be retried (OTLP specification): what was rejected stays so."""
        if rejected:
            self.counts.rejected_items += rejected
            _log.warning("trace.partly_rejected", items=rejected, jobs=[job.job_id for job in batch][:16])

    async def _post(self, client: OtlpClient, path: str, body: bytes) -> bytes:
        attempts = 1 if self._stopping.is_set() else self.options.attempts
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TryAgainError),
            stop=stop_after_attempt(attempts),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(client.post, path, body)

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        wanted = error.retry_after_seconds if isinstance(error, TryAgainError) else None
        backoff = wait_exponential_jitter(
            multiplier=self.options.first_retry_seconds,
            max=self.options.longest_retry_seconds,
            jitter=self.options.first_retry_seconds,
        )
        return max(backoff(state), wanted or 0.0)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but wake when told to stop: the last try of a flush comes at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _complain(self, error: OrchestratorError) -> None:
        """Log a failed pass once for each new reason, not every second."""
        self.counts.failed_passes += 1
        if self._complained != error.reason:
            self._complained = error.reason
            _log.warning(
                "trace.export_failed", reason=error.reason, detail=str(error), fix=error.fix, waiting=self.counts.depth
            )


def _batches(encoded: Sequence[_Encoded], limit: int) -> list[list[_Encoded]]:
    """In order, each of at most `limit` bytes of spans or events or of one job."""
    batches: list[list[_Encoded]] = []
    size = 0
    for job in encoded:
        weight = max(len(job.spans), len(job.events))
        if not batches or size + weight > limit:
            batches.append([])
            size = 0
        batches[-1].append(job)
        size += weight
    return batches
