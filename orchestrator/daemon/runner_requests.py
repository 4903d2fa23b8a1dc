"""What runners ask of the daemon, put together from the rooms that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from orchestrator.daemon.egress_keeper import EgressKeeper
from orchestrator.daemon.github.sources import GitHubSources
from orchestrator.daemon.records.attest import ReportDesk
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.identity.exchange import Exchange
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.pools import Pools
from orchestrator.lifecycle.ports import RunnerCredentials
from orchestrator.model.record import Record
from orchestrator.server.runner.handlers import RunnerDeps
from orchestrator.server.runner.listeners import RunnerApi, RunnerApiDeps
from orchestrator.server.runner.token import token_exchange
from orchestrator.server.runner.work import RunnerEndpoints
from orchestrator.telemetry import relay as spans
from orchestrator.telemetry.ids import traceparent
from orchestrator.telemetry.joining import sent_traceparent


def runner_deps(
    engine: Engine,
    exchange: Exchange,
    pools: Pools,
    relay: spans.JobSpanRelay | None,
    masker: Masker,
    platforms: GitHubSources,
    keeper: EgressKeeper,
    secrets: SecretsRoom,
    desk: ReportDesk,
    *,
    join_traces: bool,
) -> RunnerDeps:
    """What runners of every backend ask of us."""

    async def work_files(record: Record) -> Mapping[str, str]:
        if record.platform is not None:
            return await platforms.work_files(record)
        return await secrets.files(record, engine.note)

    def traceparent_of(record: Record) -> str:
        return sent_traceparent(record.offer) if join_traces else traceparent(record.id)

    return RunnerDeps(
        engine=engine,
        exchange=token_exchange(exchange),
        pool_of=pools.of,
        masker=masker,
        relay=relay.relay if relay else None,
        work_files=work_files,
        namer=keeper.with_egress(platforms.name),
        audience_of=platforms.audience_of,
        report=desk.report,
        traceparent_of=traceparent_of,
    )


def runner_api_for(deps: RunnerDeps, credentials: RunnerCredentials) -> RunnerApi:
    """For runners that have a listener of their own."""
    shared = {field.name: getattr(deps, field.name) for field in fields(deps)}
    endpoints = RunnerEndpoints(otlp=deps.relay is not None)
    return RunnerApi(RunnerApiDeps(**shared, credentials=credentials, endpoints=endpoints))
