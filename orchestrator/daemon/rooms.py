"""Opens every room in order and plugs them into each other; the exit stack closes them in reverse."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from orchestrator import __version__
from orchestrator.backends.sandbox.backend import SandboxBackend
from orchestrator.daemon import slices
from orchestrator.daemon.adapters import DispatchSource, EgressAdapter, JobLogsAdapter, Later, ListenersAdapter
from orchestrator.daemon.attest import EvidenceLookup, ProvenanceAttester
from orchestrator.daemon.clock import SystemClock
from orchestrator.egress.process import GatewayProcess
from orchestrator.errors import ConfigurationError
from orchestrator.evidence.provenance import Builder
from orchestrator.evidence.signing_key import open_evidence_key
from orchestrator.evidence.store import EvidenceStore
from orchestrator.identity.exchange import Collaborators, Exchange
from orchestrator.identity.introspect import Introspection
from orchestrator.identity.issuer import Issuer
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rate import RateLimit
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerVerifier
from orchestrator.intake import dispatch
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.pool import Pool
from orchestrator.policy.bundle import BundleHolder, default_bundle
from orchestrator.policy.decide import PolicyDecider
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.server.runner_api import RunnerApi, RunnerApiDeps
from orchestrator.server.token import token_exchange
from orchestrator.server.work import RunnerEndpoints
from orchestrator.settings import Settings
from orchestrator.telemetry import relay as spans
from orchestrator.telemetry.export import ExportOptions, TraceExporter
from orchestrator.telemetry.metrics import Metrics
from orchestrator.telemetry.otlp_http import OtlpClient, Receiver

_EXCHANGES_PER_SECOND = 5.0
_EXCHANGE_BURST = 20


@dataclass(frozen=True)
class Rooms:
    """The running rooms. `url` is the public URL and issuer; `instance` differs at each start."""

    settings: Settings
    url: str
    instance: str
    clock: SystemClock
    pools: dict[PoolName, Pool]
    journal: SqliteJournal
    logs: LogStore
    masker: Masker
    keys: KeyStore
    issuer: Issuer
    callers: CallerVerifier
    introspection: Introspection
    policy: PolicyDecider
    gateway: GatewayProcess
    backend: SandboxBackend
    runner_api: RunnerApi
    engine: Engine
    sweep: Sweep
    metrics: Metrics
    exporter: TraceExporter


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


async def open_rooms(settings: Settings, url: str, stack: AsyncExitStack) -> Rooms:
    """Open everything but the public API.

    Raises:
        ConfigurationError: whatever is not fit to start with, with its fix.
    """
    clock = SystemClock()
    pools = slices.pools(settings)
    journal = await SqliteJournal.open(settings.state_dir / "journal.db", clock)
    stack.push_async_callback(journal.close)
    masker = Masker()
    logs = LogStore(settings.state_dir / "logs", settings.logs.max_bytes_per_job, masker)
    stack.push_async_callback(logs.close)

    keys = KeyStore.open(settings.state_dir / "keys", slices.rotation(settings), time.time())
    issuer = Issuer(slices.issuer(settings, url), keys, clock.now_ns)
    replay = ReplayStore(settings.state_dir / "spent-tokens", time.time())
    callers = CallerVerifier(
        slices.callers(settings), local=issuer, replay=replay, clock_ns=clock.now_ns, monotonic=time.monotonic
    )
    stack.push_async_callback(callers.close)

    evidence_key = open_evidence_key(settings.state_dir / "keys" / "evidence")
    evidence = EvidenceStore(settings.state_dir / "evidence")
    builder = Builder(url, __version__)
    policy = _policy(settings, EvidenceLookup(evidence, evidence_key, builder, pools), clock, stack)

    engine_later: Later[Engine] = Later()
    api_later: Later[RunnerApi] = Later()
    egress = EgressAdapter(slices.gateway(settings, root=os.geteuid() == 0), engine_later)
    await egress.gateway.start()
    stack.push_async_callback(egress.gateway.stop)
    backend = SandboxBackend(
        slices.sandbox(settings, hashlib.sha256(str(settings.state_dir.resolve()).encode()).hexdigest()[:12]),
        egress,
        ListenersAdapter(api_later),
        JobLogsAdapter(logs, engine_later),
    )

    attester = ProvenanceAttester(journal, pools, builder, evidence_key, evidence)
    performer = Performer(policy, {"sandbox": backend}, {dispatch.SOURCE: DispatchSource(masker)}, attesters=[attester])
    engine = engine_later.set(
        Engine(
            journal=journal,
            performer=performer,
            pools=pools,
            clock=clock,
            deadlines=slices.deadlines(settings),
            max_jobs=settings.server.max_queued_jobs,
        )
    )
    backend.subscribe(engine.runner_changed)

    def mask(job_id: JobId, secret: str) -> None:
        masker.register(job_id, secret)

    relay = await _relay(settings, masker, stack)
    exchange = Exchange(
        issuer,
        Collaborators(policy, engine.bound_record, pools.get, engine.note, mask),
        RateLimit(per_second=_EXCHANGES_PER_SECOND, burst=_EXCHANGE_BURST, monotonic=time.monotonic),
    )
    runner_api = api_later.set(
        RunnerApi(
            RunnerApiDeps(
                engine=engine,
                credentials=backend,
                exchange=token_exchange(exchange),
                pools={str(name): pool for name, pool in pools.items()},
                relay=relay.relay if relay else None,
                endpoints=RunnerEndpoints(otlp=relay is not None),
            )
        )
    )
    stack.push_async_callback(runner_api.stop)
    stack.push_async_callback(backend.close)
    await backend.start()
    stack.push_async_callback(engine.close)

    metrics = Metrics({name: pool.capacity for name, pool in pools.items()}, __version__, clock.now_ns)
    exporter = _exporter(settings, journal, masker, url)
    return Rooms(
        settings, url, secrets.token_hex(8), clock, pools, journal, logs, masker, keys, issuer, callers,
        Introspection(issuer, engine.record), policy, egress.gateway, backend, runner_api, engine,
        Sweep(engine, journal, {"sandbox": backend}), metrics, exporter,
    )  # fmt: skip


def _policy(settings: Settings, evidence: EvidenceLookup, clock: SystemClock, stack: AsyncExitStack) -> PolicyDecider:
    engine: BundleHolder | OpaServerEngine
    if settings.policy.engine == "opa":
        engine = OpaServerEngine(settings.policy.opa_url, timeout_seconds=settings.policy.timeout_seconds)
    else:
        engine = BundleHolder(settings.policy.bundle or default_bundle())
    stack.push_async_callback(engine.aclose)
    return PolicyDecider(engine, evidence, clock)


async def _relay(settings: Settings, masker: Masker, stack: AsyncExitStack) -> spans.JobSpanRelay | None:
    if not (settings.telemetry.otlp_endpoint and settings.telemetry.relay_job_spans):
        return None
    client = OtlpClient(Receiver(settings.telemetry.otlp_endpoint))
    stack.push_async_callback(client.close)
    return spans.JobSpanRelay(client, masker.text)


def _exporter(settings: Settings, journal: SqliteJournal, masker: Masker, url: str) -> TraceExporter:
    endpoint = settings.telemetry.otlp_endpoint
    options = ExportOptions(
        receiver=Receiver(endpoint) if endpoint else None,
        interval_seconds=settings.telemetry.export_interval_seconds,
        public_url=url,
    )
    resource = {"service.name": "orchestrator", "service.version": __version__}
    return TraceExporter(journal, options, resource, masker.text)
