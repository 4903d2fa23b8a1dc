"""What the daemon does over and over. A loop that ends is a defect and ends the daemon with it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from orchestrator.daemon.cluster.gate import ClusterGate
from orchestrator.daemon.egress_keeper import LOOK_SECONDS
from orchestrator.daemon.presence import Presence
from orchestrator.daemon.rooms import Rooms
from orchestrator.errors import OrchestratorError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.identity.keys import KeyStore
from orchestrator.lifecycle.observation import SECOND

_log = logging.getLogger("orchestrator")

_ROTATION_LOOK_SECONDS = 300.0
_COMPACTION_SECONDS = 600.0
_UPKEEP_SECONDS = 1.0
_CREDENTIALS_SECONDS = 5.0
_SECRETS_SECONDS = 10.0
_SCORES_SECONDS = 30.0
_GATE_SECONDS = 3600.0


def periodic_loops(
    rooms: Rooms, presence: Presence, gate: ClusterGate | None = None
) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
    """Each loop by name, to be run in the root task group."""
    yield "sweep", _every(rooms.settings.deadlines.sweep_seconds, "sweep", rooms.sweep.run)
    yield "egress", _every(LOOK_SECONDS, "look at runners' egress", rooms.egress_keeper.look)
    for name, issuer in rooms.issuers.items():
        rotate = partial(_rotate, rooms, name, issuer.keys)
        yield f"key-rotation {name}".strip(), _every(_ROTATION_LOOK_SECONDS, f"key rotation {name}".strip(), rotate)
    yield "compaction", _every(_COMPACTION_SECONDS, "compaction", lambda: _compact(rooms))
    for name, room in rooms.backends.items():
        yield f"backend-{name}", _every(_UPKEEP_SECONDS, f"upkeep of backend {name}", room.upkeep)
    if rooms.broker is not None:
        yield "credentials", _every(_CREDENTIALS_SECONDS, "ending of credentials", rooms.broker.upkeep)
    if gate is not None:
        yield "gate", _every(_GATE_SECONDS, "upkeep of the cluster's gate", gate.upkeep)
    yield "scores", _every(_SCORES_SECONDS, "the scorecard's counts", rooms.accounts.upkeep)
    for secret in rooms.static_secrets.registry.all():
        turn = partial(rooms.static_secrets.turn, secret)
        woken = rooms.static_secrets.woken(secret.name)
        yield f"secret {secret.name}", _every(_SECRETS_SECONDS, f"the secret {secret.name}", turn, woken)
    yield "caller-token", presence.renew_for_ever()
    yield "loop-lag", rooms.metrics.sample_loop_lag()


async def _every(
    seconds: float, name: str, work: Callable[[], Awaitable[object]], woken: asyncio.Event | None = None
) -> None:
    """Again and again, `seconds` apart, or sooner when it is woken."""
    woken = woken or asyncio.Event()
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await woken.wait()
        woken.clear()
        try:
            await work()
        except OrchestratorError as error:
            _log.warning("%s put off: %s", name, error, extra={"reason": error.reason})
        except Exception:  # noqa: BLE001 -- the next turn tries again; the log has the defect
            _log.exception("%s failed", name)


async def _rotate(rooms: Rooms, name: str, keys: KeyStore) -> None:
    plan = await asyncio.to_thread(keys.rotate, rooms.clock.now_ns() / SECOND)
    if plan:
        _log.info("signing keys rotated")
        await rooms.notes.keys_rotated(name, plan, keys, DAEMON)


async def _compact(rooms: Rooms) -> None:
    settings = rooms.settings
    now = rooms.clock.now_ns()
    done = await rooms.journal.compact(
        now,
        int(settings.journal.retention_seconds * SECOND),
        int(settings.journal.forget_seconds * SECOND),
        exporting=bool(settings.telemetry.otlp_endpoint),
    )
    live = frozenset(rooms.engine.live_ids())
    deleted = await rooms.logs.delete_older(now, int(settings.logs.retention_seconds * SECOND), live)
    if done.compacted or done.forgotten or deleted:
        _log.info(
            "old jobs compacted",
            extra={"compacted": done.compacted, "forgotten": done.forgotten, "logs_deleted": deleted},
        )
