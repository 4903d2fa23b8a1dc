"""The settings in force: read again, and put in force as far as that goes without a restart. All of it, or nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from orchestrator.daemon import slices
from orchestrator.daemon.cluster.closed_ports import closed_ports
from orchestrator.daemon.rooms import Rooms
from orchestrator.model.phase import Phase
from orchestrator.settings import Settings
from orchestrator.settings.change import plan_change
from orchestrator.telemetry.logging import configure

Reread = Callable[[], Settings]
"""Reads the settings again, from where the running ones came."""

_NOT_BEGUN = frozenset({Phase.QUEUED, Phase.WAITING})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Paths of settings that are `changed`, and of those that need a `restart`; by pool that is gone, how many of its
    jobs are `ending` because they had not begun; by pool on a cluster, ports that stay `closed` until the manifests are
    applied."""

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    ending: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class LiveSettings:
    """`current` are those in force."""

    def __init__(self, rooms: Rooms, reread: Reread) -> None:
        self.current = rooms.settings
        self._rooms = rooms
        self._reread = reread

    async def load(self, actor: str) -> Loaded:
        """
        Raises:
            OrchestratorError: they are not fit, or the audit log cannot be told of them; nothing has changed.
        """
        rooms = self._rooms
        found = await asyncio.to_thread(self._reread)
        change = plan_change(self.current, found, rooms.backends)
        if not change.changed:
            return Loaded(restart=change.restart, closed=closed_ports(rooms.settings, self.current))
        ready = [await room.prepare(change.in_force) for room in rooms.backends.values()]
        ready.append(await rooms.notifications.prepare(change.in_force))
        await rooms.notes.settings_loaded(change.changed, change.restart, actor)
        for put_in_force in ready:
            put_in_force()
        ending = self._unbegun_without(change.in_force)
        self._put_in_force(change.in_force)
        return Loaded(change.changed, change.restart, ending, closed_ports(rooms.settings, change.in_force))

    def _unbegun_without(self, settings: Settings) -> Mapping[str, int]:
        """How many jobs have not begun whose pool is configured now and will not be."""
        engine = self._rooms.engine
        gone: Collection[str] = {pool.name for pool in self.current.pools} - {pool.name for pool in settings.pools}
        records = [record for job_id in engine.live_ids() if (record := engine.record(job_id))] if gone else []
        pools = (str(record.offer.spec.pool) for record in records if record.phase in _NOT_BEGUN)
        return Counter(pool for pool in pools if pool in gone)

    def _put_in_force(self, settings: Settings) -> None:
        rooms, pools = self._rooms, slices.pools(settings)
        rooms.engine.pools_changed(pools, slices.deadlines(settings))
        rooms.metrics.set_pools({name: pool.capacity for name, pool in pools.items()})
        rooms.promotion.signers.pools_changed()
        rooms.accounts.books.found.settings = settings
        rooms.platforms.capacity_changed()
        if settings.logs != self.current.logs:
            configure(settings.logs.level, settings.logs.format, rooms.masker.text)
        self.current = settings
