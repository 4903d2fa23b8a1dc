"""What the rooms themselves count, read when `/metrics` is scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from orchestrator.daemon.backend_room import BackendRoom
from orchestrator.daemon.records.audit import Audit
from orchestrator.journal.trail import KeptJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.api import ApiCounts
from orchestrator.model.job import PoolName
from orchestrator.model.source import SourceState
from orchestrator.telemetry.export import TraceExporter
from orchestrator.telemetry.metrics import Metrics


def watch_rooms(
    metrics: Metrics, journal: KeptJournal, audit: Audit | None, exporter: TraceExporter, sweep: Sweep
) -> None:
    """Add them to `metrics`; docs/reference/metrics.md lists them."""
    watch_audit(metrics, audit)
    counts = exporter.counts
    metrics.watch("journal_healthy", "1 while the journal stores facts.", lambda: float(journal.healthy))
    metrics.watch("journal_queue_depth", "Writes that wait for the journal's writer.", lambda: journal.waiting)
    untold = "Facts that are stored and wait for the audit log, so that nothing follows from them yet."
    metrics.watch("journal_lag_facts", untold, lambda: journal.untold)
    metrics.watch("trace_outbox_jobs", "Finished jobs whose trace waits; counted to 1000.", lambda: counts.depth)
    metrics.watch_count("trace_exported", "Jobs whose trace the receiver took.", lambda: counts.exported)
    metrics.watch_count("trace_refused", "Jobs whose trace can never be sent.", lambda: counts.refused)
    rejected = "Spans and events that the receiver left out of a trace that it took."
    metrics.watch_count("trace_items_rejected", rejected, lambda: counts.rejected_items)
    no_events = "Jobs whose events the receiver will never take."
    metrics.watch_count("trace_events_refused", no_events, lambda: counts.refused_events)
    metrics.watch_count("trace_export_failed", "Passes over the outbox that failed.", lambda: counts.failed_passes)
    metrics.watch_errors(
        lambda: {
            ("telemetry", "trace_refused"): counts.refused,
            ("telemetry", "trace_export_failed"): counts.failed_passes,
        }
    )
    metrics.watch_count("orphan_deleted", "Runners of no job that were deleted.", lambda: sweep.orphans_deleted)


def watch_work(
    metrics: Metrics,
    engine: Engine,
    performer: Performer,
    backends: Iterable[BackendRoom],
    sources: Callable[[], Iterable[SourceState]],
) -> None:
    """Add what is known of jobs on their way: of the engine, the backends and the platforms."""
    watch_engine(metrics, engine, performer)
    watch_backends(metrics, backends)
    watch_platforms(metrics, sources)


def watch_engine(metrics: Metrics, engine: Engine, performer: Performer) -> None:
    """Add what the engine knows of pools and of its own work."""
    used = "Runners of a pool that jobs have or are about to have."
    metrics.watch_pools("pool_used_runners", used, lambda pool: _slots(engine, pool))
    failed = "Steps of jobs that failed, by why; what may go better is tried again."
    metrics.watch_counts("job_step_failed", failed, ("step", "reason"), lambda: performer.failed)


def _slots(engine: Engine, pool: str) -> float:
    return float(engine.slots(PoolName(pool)).held)


def watch_backends(metrics: Metrics, rooms: Iterable[BackendRoom]) -> None:
    """Add what backends know of pools, and of the API behind them."""
    all_rooms = tuple(rooms)

    def missing(pool: str) -> float:
        return float(sum(len(room.lacking().get(pool, ())) for room in all_rooms))

    def api_counts() -> list[ApiCounts]:
        return [counts for room in all_rooms for counts in room.api_counts()]

    metrics.watch_pools("pool_guards_missing", "Guards that a pool should have and has not.", missing)
    for room in all_rooms:
        metrics.watch_warm(room.warm)
    metrics.watch_api(api_counts)


def watch_platforms(metrics: Metrics, read: Callable[[], Iterable[SourceState]]) -> None:
    """Add what sources of jobs know; requests without an answer, or with one of 5xx, are errors of the system."""

    def errors() -> Mapping[tuple[str, str], float]:
        found: Counter[tuple[str, str]] = Counter()
        for state in read():
            for calls in state.calls.values():
                found["source", "no_answer"] += calls.by_status.get("none", 0)
                found["source", "5xx"] += calls.by_status.get("5xx", 0)
        return found

    metrics.watch_sources(read)
    metrics.watch_errors(errors)


def watch_gate(metrics: Metrics, counts: Mapping[bool, int]) -> None:
    """Add what a cluster's gate has answered."""
    metrics.watch_count("deployment_allowed", "Workloads that a cluster was told to start.", lambda: counts[True])
    metrics.watch_count("deployment_denied", "Workloads that a cluster was told not to start.", lambda: counts[False])


def watch_audit(metrics: Metrics, audit: Audit | None) -> None:
    """Add what the audit log and its anchors know; nothing where there is none."""
    if audit is None:
        return
    log, anchors = audit.log, audit.anchors
    metrics.watch("audit_healthy", "1 while the audit log takes records.", lambda: float(log.healthy))
    metrics.watch("audit_queue_depth", "Records that wait to become durable.", lambda: log.waiting)
    metrics.watch_count("audit_record", "Records of the audit log, of all its life.", lambda: log.size)
    uncovered = "Records that no signed checkpoint covers yet."
    metrics.watch("audit_uncovered_records", uncovered, lambda: log.size - log.checkpoint.size)
    age = "For how long no anchor has accepted the newest checkpoint, in seconds; 0 when one has, or there is none."
    metrics.watch("audit_unanchored_seconds", age, anchors.age_seconds)
    covered = "Records that the anchor's last checkpoint covers."
    metrics.watch_words(
        "audit_anchor_size", covered, "anchor", lambda: {name: anchors.size_of(name) for name in anchors.names}
    )
    failed = "Failed tries to bring a checkpoint to the anchor."
    metrics.watch_counts(
        "audit_anchor_failed",
        failed,
        ("anchor",),
        lambda: {(name,): anchors.failures_of(name) for name in anchors.names},
    )
