"""The public API over the rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from orchestrator.daemon.adapters import LogReaderAdapter
from orchestrator.daemon.operations.page import open_door
from orchestrator.daemon.operations.signing_keys import SigningKeys
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.promotion.artifacts import ArtifactDesk
from orchestrator.daemon.promotion.deployment import PolicyDesk
from orchestrator.daemon.rooms import Rooms
from orchestrator.daemon.surroundings import surroundings
from orchestrator.daemon.trust import TrustReader
from orchestrator.server.app import ApiServer, build_app
from orchestrator.server.deps import Limits, PoolState, ServerDeps
from orchestrator.server.operating.port import OperatingDesk
from orchestrator.telemetry.waterfall import trace_document


class Draining(Protocol):
    @property
    def under_way(self) -> bool: ...


def api_server(rooms: Rooms, drain: Draining, presence: Presence, operating: OperatingDesk | None = None) -> ApiServer:
    """The server, not listening yet."""
    given = rooms.settings.server
    limits = Limits(max_body_bytes=given.max_body_bytes, retry_after_seconds=given.retry_after_seconds)

    def metrics(accept: str) -> tuple[bytes, str]:
        content_type, body = rooms.metrics.render(accept)
        return body, content_type

    readiness = partial(_checks, rooms, drain)

    def checks_ok() -> Mapping[str, float]:
        return {name: float(state == "ok") for name, state in readiness().items()}

    rooms.metrics.watch_words("check_ok", "1 while a check of readiness passes.", "check", checks_ok)

    deps = ServerDeps(
        engine=rooms.engine,
        around=surroundings(rooms.engine, rooms.journal, rooms.settings),
        reader=rooms.journal,
        logs=LogReaderAdapter(rooms.logs, lambda: rooms.engine),
        authenticate=rooms.callers.verify,
        documents=rooms.issuer,
        issuers={name: issuer for name, issuer in rooms.issuers.items() if name},
        trust=TrustReader(rooms.trust, rooms.pools) if rooms.trust.configured else None,
        audit=rooms.audit,
        artifacts=ArtifactDesk(rooms.promotion.kept, rooms.promotion.signers, rooms.notes, rooms.clock),
        check_policy=PolicyDesk(rooms.decider.enquire, rooms.pools),
        secrets=rooms.accounts.desk,
        books=rooms.accounts.books,
        notifications=rooms.notifications,
        keys=SigningKeys(rooms.issuers, rooms.notes, rooms.clock.now_ns, presence.renew),
        introspect=rooms.introspection.introspect,
        trace=partial(
            trace_document,
            public_url=rooms.url,
            join=rooms.settings.telemetry.join_platform_trace,
            redact=rooms.masker.text,
        ),
        metrics=metrics,
        pools=lambda: _pool_states(rooms),
        readiness=readiness,
        draining=lambda: drain.under_way,
        operating=operating,
        local_issuer=rooms.url,
        evidence_key=rooms.receipts.public_pem,
        sources=rooms.platforms.states,
        webhooks=rooms.platforms.receivers,
        approvals=rooms.approvals.desk,
        page=open_door(rooms.settings, rooms.url, rooms.notes),
        instance=rooms.instance,
        limits=limits,
        served=rooms.metrics.request_served,
    )
    return ApiServer(build_app(deps), limits)


def _checks(rooms: Rooms, drain: Draining) -> Mapping[str, str]:
    """What may keep the daemon from being given work, each with *ok* or what is wrong."""
    journal = rooms.journal
    checks = {
        "journal": "ok" if journal.healthy else f"{journal.problem or 'the journal failed'}; see the daemon's log",
        "intake": "draining" if drain.under_way else "ok",
    }
    checks |= rooms.audit.checks() if rooms.audit else {}
    for room in rooms.backends.values():
        checks |= room.checks()
    return checks


def _pool_states(rooms: Rooms) -> Sequence[PoolState]:
    slots = {name: rooms.engine.slots(name) for name in rooms.pools}
    lacking = {name: tuple(words) for room in rooms.backends.values() for name, words in room.lacking().items()}
    return [
        PoolState(pool, slots[name].held, slots[name].waiting, lacking.get(name, ()))
        for name, pool in rooms.pools.items()
    ]
