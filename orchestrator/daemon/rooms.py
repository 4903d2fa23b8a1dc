"""Opens every room in order and plugs them into each other; the exit stack closes them in reverse."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from orchestrator import __version__
from orchestrator.daemon import slices
from orchestrator.daemon.adapters import ForgettingSource, Later, ListenersAdapter, masked_note
from orchestrator.daemon.backend_room import BackendRoom, Neighbours
from orchestrator.daemon.backends import AnyCredentials, open_backends
from orchestrator.daemon.backup.places import RESTORING
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.egress_keeper import EgressKeeper
from orchestrator.daemon.github.brokered import GitHubBroker, open_broker
from orchestrator.daemon.github.sources import GitHubSources, open_github
from orchestrator.daemon.identity import exchange_of, open_identity
from orchestrator.daemon.notifications import NotificationDesk, open_notifications
from orchestrator.daemon.operations.gauges import watch_rooms, watch_work
from orchestrator.daemon.promotion.approvals import Approvals
from orchestrator.daemon.promotion.gate import PolicyEngine, open_gate, watch_gate
from orchestrator.daemon.promotion.room import Promotion
from orchestrator.daemon.records.audit import Audit
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.records.decision_log import DecisionRoom
from orchestrator.daemon.records.receipt import Receipts
from orchestrator.daemon.runner_requests import runner_api_for, runner_deps
from orchestrator.daemon.secrets.accounts import Accounts
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.daemon.storage import open_store
from orchestrator.daemon.trust import TrustHolder
from orchestrator.errors import ConfigurationError
from orchestrator.evidence.receipts.making import Signer
from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.verify import CallerVerifier
from orchestrator.intake import dispatch
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.journal.trail import KeptJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import JobSource, Revoker
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.job import JobId
from orchestrator.policy.decide import PolicyDecider
from orchestrator.server.runner.handlers import RunnerDeps
from orchestrator.server.runner.listeners import RunnerApi
from orchestrator.settings import Settings
from orchestrator.telemetry import relay as spans
from orchestrator.telemetry.export import ExportOptions, TraceExporter
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.otlp_http import OtlpClient, Receiver
from orchestrator.telemetry.platform_trace import PlatformTrace, platform_trace
from orchestrator.telemetry.records import Attributes
from orchestrator.telemetry.resource import daemon_resource


@dataclass(frozen=True)
class Rooms:
    """The running rooms. `url` is the public URL and issuer; `instance` differs at each start."""

    settings: Settings
    url: str
    instance: str
    clock: SystemClock
    pools: Pools
    journal: KeptJournal
    audit: Audit | None
    notes: AuditNotes
    logs: LogStore
    masker: Masker
    issuers: IssuerSet
    callers: CallerVerifier
    trust: TrustHolder
    broker: GitHubBroker | None
    introspection: Introspection
    policy_engine: PolicyEngine
    decider: PolicyDecider
    decisions: DecisionRoom
    backends: Mapping[str, BackendRoom]
    runner_api: RunnerApi
    runner_deps: RunnerDeps
    engine: Engine
    sweep: Sweep
    egress_keeper: EgressKeeper
    receipts: Receipts
    promotion: Promotion
    approvals: Approvals
    static_secrets: SecretsRoom
    accounts: Accounts
    platforms: GitHubSources
    metrics: Metrics
    exporter: TraceExporter
    notifications: NotificationDesk

    @property
    def issuer(self) -> Issuer:
        """The one of the daemon's own URL."""
        return self.issuers.main


def prepare_state_dir(folder: Path) -> None:
    """Make the state folder for this user alone.

    Raises:
        ConfigurationError: reason `state_dir_unusable`.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the state folder {folder}: {error.strerror}",
            reason="state_dir_unusable",
            fix="set state_dir to a folder that this user can write",
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"the state folder {folder} is open to other users or belongs to one",
            reason="state_dir_unusable",
            fix=f"chown it to the daemon's user and run: chmod 700 {folder}",
        )
    if (folder / RESTORING).exists():
        raise ConfigurationError(
            f"a restore into the state folder {folder} is under way, or was cut short",
            reason="state_dir_unusable",
            fix="wait for it; if none is running, restore again with --aside",
        )


async def open_rooms(settings: Settings, url: str, stack: AsyncExitStack) -> Rooms:
    """Open everything but the public API.

    Raises:
        OrchestratorError: whatever is not fit to start with, with its fix.
    """
    clock = SystemClock()
    pools = Pools(slices.pools(settings))
    store = await open_store(settings, url, clock, stack)
    identity = await open_identity(settings, url, clock, store.notes, stack)
    notifications = await open_notifications(settings, store, url, clock, stack)
    engine_later: Later[Engine] = Later()
    gate = await open_gate(settings, url, pools, store, identity, engine_later, clock, stack)
    policy, promotion = gate.policy, gate.promotion
    relay = await _relay(settings, store.masker, engine_later, stack)

    signer = Signer(url, __version__, settings.deadlines.teardown_seconds)
    receipts = Receipts(store.journal, engine_later, promotion.key, signer, clock)
    api_later: Later[RunnerApi] = Later()
    listeners = ListenersAdapter(api_later)
    near = Neighbours(settings, engine_later, listeners, store.logs, store.masker)
    backends = await open_backends((pool.backend for pool in pools.values()), near, stack)
    platforms = open_github(settings, url, engine_later, clock.now_ns, stack)
    broker = open_broker(settings, engine_later, store.journal, clock, store.masker, stack)
    performer = Performer(
        policy,
        {name: room.backend for name, room in backends.items()},
        _reporters(store.masker, platforms),
        revokers=[*platforms.revokers, *_revokers(listeners, backends, relay), *([broker] if broker else [])],
        # Provenance tells the digest of the log, so whoever closes it comes first.
        attesters=[*(one for room in backends.values() for one in room.attesters), promotion.attester],
        sealer=receipts,
        mask=store.masker.text,
    )
    engine = engine_later.set(_engine(settings, store.journal, performer, pools, clock))
    note = masked_note(engine.note, store.masker.text)
    exchange = exchange_of(identity, policy, engine, note, pools, store.masker, broker, promotion.summaries)
    keeper = EgressKeeper(engine_later, backends, clock)
    push_closing(stack, "egress keeper", keeper.close)
    asked = runner_deps(
        engine, exchange, pools, relay, store.masker, platforms, keeper, gate.static_secrets, promotion.desk,
        join_traces=settings.telemetry.join_platform_trace,
    )  # fmt: skip
    runner_api = api_later.set(runner_api_for(asked, AnyCredentials(backends.values())))
    push_closing(stack, "runner API", runner_api.stop)
    await _start(backends, engine, stack)

    sweep = Sweep(engine, {name: room.backend for name, room in backends.items()})
    instance = secrets.token_hex(8)
    exporter = _exporter(settings, store.journal, store.masker, url, daemon_resource(__version__, instance))
    metrics = _metrics(settings, pools, clock)
    watch_rooms(metrics, store.journal, store.audit, exporter, sweep)
    watch_work(metrics, engine, performer, backends.values(), platforms.states)
    notifications.watch(metrics)
    watch_gate(metrics, gate)
    return Rooms(
        settings, url, instance, clock, pools, store.journal, store.audit, store.notes, store.logs,
        store.masker, identity.issuers, identity.callers, identity.trust, broker,
        Introspection(identity.issuers, engine.bound_record), gate.engine, gate.decider, gate.decisions, backends,
        runner_api, asked, engine, sweep, keeper, receipts, promotion, gate.approvals, gate.static_secrets,
        gate.accounts, platforms, metrics, exporter, notifications,
    )  # fmt: skip


def _engine(settings: Settings, journal: KeptJournal, performer: Performer, pools: Pools, clock: SystemClock) -> Engine:
    return Engine(
        journal=journal,
        performer=performer,
        pools=pools,
        clock=clock,
        deadlines=slices.deadlines(settings),
        max_jobs=settings.server.max_queued_jobs,
    )


def _revokers(
    listeners: ListenersAdapter, backends: Mapping[str, BackendRoom], relay: spans.JobSpanRelay | None
) -> list[Revoker]:
    """In this order: once the runner API listens no more, nothing can open again what the others have closed."""
    own = [revoker for room in backends.values() for revoker in room.revokers]
    return [listeners, *own, *([relay] if relay else [])]


def _metrics(settings: Settings, pools: Pools, clock: SystemClock) -> Metrics:
    capacity = {str(name): pool.capacity for name, pool in pools.items()}
    given = settings.telemetry
    return Metrics(capacity, __version__, clock.now_ns, given.metric_pipelines, join=given.join_platform_trace)


def _reporters(masker: Masker, platforms: GitHubSources) -> dict[str, JobSource]:
    told = {name: ForgettingSource(masker, source) for name, source in platforms.reporters.items()}
    return {dispatch.SOURCE: ForgettingSource(masker), **told}


async def _start(backends: Mapping[str, BackendRoom], engine: Engine, stack: AsyncExitStack) -> None:
    """Have every backend ready before the first job is looked at. At the end the engine stops first."""
    for name, room in backends.items():
        room.backend.subscribe(engine.runner_changed)
        push_closing(stack, f"backend {name}", room.close)
        await room.start()
    push_closing(stack, "engine", engine.close)


async def _relay(
    settings: Settings, masker: Masker, engine: Callable[[], Engine], stack: AsyncExitStack
) -> spans.JobSpanRelay | None:
    if not (settings.telemetry.otlp_endpoint and settings.telemetry.relay_job_spans):
        return None
    client = OtlpClient(Receiver(settings.telemetry.otlp_endpoint))
    push_closing(stack, "span relay", client.close)

    join = settings.telemetry.join_platform_trace

    def joined(job_id: JobId) -> PlatformTrace | None:
        record = engine().record(job_id) if join else None
        return platform_trace(record.offer) if record is not None else None

    return spans.JobSpanRelay(client, masker.text, joined=joined)


def _exporter(
    settings: Settings, journal: KeptJournal, masker: Masker, url: str, resource: Attributes
) -> TraceExporter:
    endpoint = settings.telemetry.otlp_endpoint
    options = ExportOptions(
        receiver=Receiver(endpoint) if endpoint else None,
        interval_seconds=settings.telemetry.export_interval_seconds,
        public_url=url,
        join=settings.telemetry.join_platform_trace,
    )
    return TraceExporter(journal, options, resource, masker.text)
