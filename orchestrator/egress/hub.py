"""The daemon's side of its gateways: the table they poll, who of them has heard of what, and what they report.

There may be any number of gateways. `withdraw` is the promise that matters: when it returns, no gateway serves the
runner any more, because each has said so or has a table too old to serve anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from orchestrator.egress.batch import Batch, Misuse
from orchestrator.egress.publication import Publication, Superseded, runner_entry
from orchestrator.egress.table import TableUpdate
from orchestrator.errors import TryAgainError
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

log = logging.getLogger("orchestrator.egress")

MAX_GATEWAYS = 64
HOLD_SHARE = 1 / 3
"""How long a poll is held when nothing changes, of the time a table stays fresh."""
MARGIN_SECONDS = 1.0
"""Added to a gateway's freshness: two machines' clocks do not run equally fast."""

OnVerdict = Callable[[RunnerName, EgressDecided], None]
OnMisuse = Callable[[Misuse], None]
Settled = Callable[[RunnerName], Awaitable[None]]


@dataclass(slots=True)
class _Gateway:
    """`oldest` is the oldest version that it may hold, None for none; `fresh_until` when it refuses all at the latest.

    `poll` numbers its polls: one that was given up by the gateway must not speak for a later one.
    """

    oldest: int | None = None
    fresh_until: float = 0.0
    seen_at: float = 0.0
    poll: int = 0
    batch: int = 0
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class TableHub:
    """Holds the table. Nothing is told to a gateway before `begin`."""

    def __init__(
        self,
        on_verdict: OnVerdict,
        on_misuse: OnMisuse,
        settled: Settled | None = None,
        max_age: float = 15.0,
    ) -> None:
        """`on_verdict` takes each verdict; `settled` returns when those of a runner are durable, and only then is a
        batch acknowledged. `max_age` in seconds is how long a gateway that hears nothing goes on.
        """
        self.unknown_verdicts = 0
        """Verdicts dropped because their runner was not in the table."""
        self.lost_verdicts = 0
        """Verdicts that gateways said they had to drop."""
        self._on_verdict = on_verdict
        self._on_misuse = on_misuse
        self._settled = settled
        self._max_age = max_age
        self._clock = asyncio.get_running_loop().time
        self._table = Publication()
        self._inherited: set[RunnerName] = set()
        self._withdrawn: dict[RunnerName, Superseded] = {}
        self._replaced: dict[RunnerName, Superseded] = {}
        self._gateways: dict[tuple[str, str], _Gateway] = {}
        self._changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._begun = False
        # A gateway may hold a table of the daemon before us until then.
        self._alone_at = self._clock() + max_age + MARGIN_SECONDS

    # --- the daemon's calls ---

    def begin(self) -> None:
        """Answer polls from now on. Runners that outlived an earlier daemon are published before: a gateway cuts off
        whoever is not in the table.
        """
        self._begun = True
        self._change()

    def stop(self) -> None:
        """Answer no poll any more; gateways go on with what they have until it is too old, or a new daemon begins."""
        self._begun = False
        self._change()

    def publish(
        self,
        runner: RunnerName,
        address: str,
        credential_sha256: str,
        rules: Sequence[EgressRule],
        other_addresses: Iterable[str] = (),
    ) -> None:
        """Let `runner`, at `address` (and `other_addresses`, of a dual-stack pod), reach what `rules` allow.

        Told to every gateway at once. Publishing the same again changes nothing; another address or credential cut its
        open connections, other rules those that they do not allow.

        Raises:
            ConfigurationError: reason `egress_rule_invalid`.
            GiveUpError: reason `runner_address_invalid`, `runner_credential_invalid` or `egress_rules_too_many`.
            TryAgainError: reason `gateway_table_full`.
        """
        entry = runner_entry(runner, (address, *other_addresses), credential_sha256, rules)
        first = runner not in self._table
        if self._table.put(entry):
            self._withdrawn.pop(runner, None)
            if first and not self._begun:
                self._inherited.add(runner)
            if (inherited := runner in self._inherited) or not first:
                self._replaced[runner] = Superseded(self._table.number, inherited, self._clock())
            self._change()

    async def change(self, runner: RunnerName, rules: Sequence[EgressRule]) -> bool:
        """`publish` the runner with other rules but as it is, and wait until they have `replaced` the old ones. False
        when it is not published: it reaches nothing."""
        if (held := self._table.entry(runner)) is None:
            return False
        self.publish(runner, held.addresses[0], held.credential_sha256, rules, held.addresses[1:])
        await self.replaced(runner)
        return True

    async def replaced(self, runner: RunnerName) -> None:
        """Return when no gateway goes by anything that was published of the runner before: each that serves has what
        holds now, and cut what that does not allow."""
        if (before := self._replaced.get(runner)) is not None:
            await self._until(lambda: self._holding(before), None)
            if self._replaced.get(runner) is before:
                del self._replaced[runner]

    async def withdraw(self, runner: RunnerName) -> None:
        """Take the runner's egress away. When this returns it has none at any gateway. Idempotent."""
        now = self._clock()
        self._replaced.pop(runner, None)
        if self._table.remove(runner):
            self._withdrawn[runner] = Superseded(self._table.number, runner in self._inherited, now)
            self._inherited.discard(runner)
            self._change()
        # One that was never published here may have been by the daemon before us.
        gone = self._withdrawn.get(runner) or Superseded(0, inherited=True, at=now)
        await self._until(lambda: self._holding(gone), None)
        self._forget_withdrawn()

    async def delivered(self, runner: RunnerName, seconds: float) -> bool:
        """Wait until a gateway and all others that serve have heard of the runner; False after `seconds`."""

        def waiting() -> list[float]:
            if runner not in self._table:
                return []
            now = self._clock()
            fresh = [gateway for gateway in self._gateways.values() if gateway.fresh_until > now]
            since = self._table.version_of(runner)
            late = [gateway.fresh_until for gateway in fresh if (gateway.oldest or 0) < since]
            return late if fresh else [now + seconds]

        return await self._until(waiting, seconds) and runner in self._table

    @property
    def gateways(self) -> int:
        """Gateways that serve now."""
        soon = self._clock() + MARGIN_SECONDS
        return sum(gateway.fresh_until > soon for gateway in self._gateways.values())

    # --- the gateways' requests ---

    async def poll(self, identity: str, gateway_id: str, after: str) -> TableUpdate:
        """What has changed since the version `after`, or everything; held back a while when that is nothing.

        `identity` is the authenticated one, `gateway_id` what the process calls itself. `after` also acknowledges: the
        gateway does not serve what that version no longer has.

        Raises:
            TryAgainError: reason `table_not_ready`, `too_many_gateways` or `poll_superseded`.
        """
        gateway = self._gateway(identity, gateway_id)
        gateway.poll += 1
        number = gateway.poll
        holds = self._table.known(after)
        gateway.oldest = holds if after else None
        if after and holds is None:
            gateway.oldest = 0  # another daemon's table: it may hold anything
        self._news_from_gateways()
        if self._begun and holds == self._table.number:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._max_age * HOLD_SHARE):
                    await changed.wait()
        if not self._begun:
            raise TryAgainError("the daemon has no table yet", reason="table_not_ready", retry_after_seconds=1)
        if gateway.poll != number:
            raise TryAgainError("the gateway has asked again", reason="poll_superseded")
        if gateway.oldest is None:
            gateway.oldest = self._table.number
        gateway.fresh_until = self._clock() + self._max_age + MARGIN_SECONDS
        return self._table.update(holds, self._max_age)

    async def take(self, identity: str, batch: Batch) -> None:
        """Take a batch, once; a repeated one only waits until the first is durable.

        Raises:
            TryAgainError: it is not durable yet, or reason `too_many_gateways`; repeat it.
        """
        gateway = self._gateway(identity, batch.gateway)
        async with gateway.taking:
            touched = {name for one in batch.verdicts if self._is_known(name := RunnerName(one.runner))}
            if batch.batch > gateway.batch:
                if gateway.batch and batch.batch != gateway.batch + 1:
                    log.warning("batches of a gateway are missing", extra={"gateway": batch.gateway})
                gateway.batch = batch.batch
                self._take(batch, touched)
            if self._settled is not None:
                for name in sorted(touched):
                    await self._settled(name)

    def _take(self, batch: Batch, known: set[RunnerName]) -> None:
        for one in batch.verdicts:
            if one.runner in known:
                self._on_verdict(RunnerName(one.runner), one.verdict)
            else:
                self.unknown_verdicts += one.verdict.connections
        for misuse in batch.alarms:
            if self._is_known(RunnerName(misuse.owner)):
                self._on_misuse(misuse)
        if batch.lost:
            self.lost_verdicts += batch.lost
            log.error("a gateway lost %d verdicts", batch.lost, extra={"gateway": batch.gateway})

    # --- bookkeeping ---

    def _gateway(self, identity: str, gateway_id: str) -> _Gateway:
        now = self._clock()
        key = (identity, gateway_id)
        found = self._gateways.get(key)
        if found is None:
            forgettable = now - 10 * self._max_age
            for old in [k for k, one in self._gateways.items() if one.seen_at < forgettable]:
                del self._gateways[old]
            if len(self._gateways) >= MAX_GATEWAYS:
                raise TryAgainError(
                    f"{MAX_GATEWAYS} gateways are known already", reason="too_many_gateways", retry_after_seconds=5
                )
            found = self._gateways[key] = _Gateway()
            log.info("a gateway appeared", extra={"gateway": gateway_id, "identity": identity})
        found.seen_at = now
        return found

    def _holding(self, old: Superseded) -> list[float]:
        """When each gateway that may still go by what is superseded stops at the latest: no answer that had it in it
        is newer than its end, however often a gateway asks again."""
        now = self._clock()
        last = old.at + self._max_age + MARGIN_SECONDS
        may = [
            min(gateway.fresh_until, last)
            for gateway in self._gateways.values()
            if min(gateway.fresh_until, last) > now and gateway.oldest is not None and gateway.oldest < old.version
        ]
        return [*may, self._alone_at] if old.inherited and now < self._alone_at else may

    async def _until(self, waiting: Callable[[], list[float]], seconds: float | None) -> bool:
        """Wait until `waiting` names no time any more; False after `seconds`."""
        end = None if seconds is None else self._clock() + seconds
        while times := waiting():
            now = self._clock()
            if end is not None and now >= end:
                return False
            until = min(times) if end is None else min(*times, end)
            heard = self._heard
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(until - now, 0.001)):
                    await heard.wait()
        return True

    def _is_known(self, name: RunnerName) -> bool:
        return name in self._table or name in self._withdrawn

    def _forget_withdrawn(self) -> None:
        """Verdicts may be late; after a table's life nobody has any. The oldest come first."""
        old = self._clock() - 2 * (self._max_age + MARGIN_SECONDS)
        while self._withdrawn and self._withdrawn[name := next(iter(self._withdrawn))].at < old:
            del self._withdrawn[name]

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _news_from_gateways(self) -> None:
        self._heard.set()
        self._heard = asyncio.Event()
