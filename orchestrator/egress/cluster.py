"""The gateway in a cluster: one listener for all runners, who are known by address *and* credential.

The table says where each runner is and what its job's credential digests to; both must fit, so that neither a stolen
credential nor a borrowed address gets anybody anywhere. Without a fresh table nobody is known: what was open is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.connection import ClientConnection
from orchestrator.egress.entrance import Unidentified
from orchestrator.egress.http_head import RequestHead
from orchestrator.egress.proxy_credential import presented_digest
from orchestrator.egress.resolve import Lookup, system_lookup
from orchestrator.egress.rules import NO_RULES, RuleSet
from orchestrator.egress.runner import Room, RunnerEgress, Standing
from orchestrator.egress.table import Rule, RunnerEntry, RunnerTable, TableUpdate, canonical_address, matches
from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

log = logging.getLogger("orchestrator.egress")

CLOSE_SECONDS = 2.0
"""Longest wait for the connections of an ended runner to be gone."""
MAX_STRANGERS = 256
"""Connections at one time whose address is no runner's."""
MAX_SWEEP_SECONDS = 1.0
LOGGED_MISUSES = 64
"""Misuses that are logged one by one; all are counted, and told to the daemon."""

Emit = Callable[[RunnerName, EgressDecided], None]
Misused = Callable[[str, str, str], None]
"""Called with the owner of a credential, the runner whose address it came from (or empty), and that address."""

_HINTS = {
    "credential_missing": "the proxy wants the job's credential: use the address in HTTPS_PROXY as it is",
    "credential_wrong": "the proxy credential is not the one of the runner at this address",
    "caller_unknown": "no runner has this address",
    "table_stale": "the gateway has not heard from the daemon and refuses everything until it does",
    "gateway_stopping": "the gateway is stopping; connect again to reach another",
}


class Strangers(Standing):
    """Everybody whose address is no runner's. They are answered, counted by reason, and never served."""

    def __init__(self, config: GatewayConfig, room: Room) -> None:
        super().__init__(replace(config, max_connections=MAX_STRANGERS), room)
        self.refused: Counter[str] = Counter()

    def record(self, verdict: EgressDecided) -> None:
        self.refused[verdict.reason] += verdict.connections


class ClusterGateway:
    """Serves the runners of the table it is given. An `Entrance`."""

    def __init__(
        self,
        config: GatewayConfig,
        emit: Emit,
        misused: Misused,
        lookup: Lookup | None = None,
        max_connections: int = 4096,
    ) -> None:
        """`max_connections` is for everybody together: what the process has descriptors for."""
        self._room = Room(max_connections)
        self.strangers = Strangers(config, self._room)
        self.misuses = 0
        """Times that somebody's credential came from elsewhere."""
        self.draining = False
        """Whether the process was told to end; new connections are still served."""
        self.stopping = False
        """Whether new connections are refused because the process is about to end."""
        self._config = config
        self._emit = emit
        self._misused = misused
        self._lookup = lookup or system_lookup()
        self._loop = asyncio.get_running_loop()
        self._table = RunnerTable()
        self._runners: dict[RunnerName, RunnerEgress] = {}
        self._ending: list[RunnerEgress] = []
        self._settling = asyncio.Lock()
        self._expiry: asyncio.TimerHandle | None = None

    # --- the table ---

    @property
    def version(self) -> str:
        """The table that is held, empty when there is none."""
        return self._table.version

    @property
    def fresh(self) -> bool:
        return self._table.fresh(self._loop.time())

    @property
    def runners(self) -> int:
        return len(self._table)

    @property
    def connections(self) -> int:
        """Open connections, strangers' included."""
        return self._room.used

    def apply(self, update: TableUpdate, asked_at: float) -> bool:
        """Take over an update asked for at `asked_at` (loop time). Connections of ended runners, and those that a
        runner's new rules do not allow, are cut at once.

        True when some runner's egress ended; `settle` then waits until the last of it is told.

        Raises:
            TableError: it does not fit, and nothing was changed.
        """
        changes = self._table.apply(update, asked_at)
        for name in changes.ended:
            self._end(name)
        for entry in changes.changed:
            self._runners[entry.name].change(_readable(entry))
        for entry in changes.begun:
            self._runners[entry.name] = self._begin(entry)
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_at(self._table.expires_at, self.forget, "it is too old")
        return bool(changes.ended)

    def forget(self, why: str) -> None:
        """Drop the table and cut everybody off."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self._table.version and not self.stopping:
            log.error("everything is refused without a table of runners: %s", why, extra={"runners": len(self._table)})
        self._table.clear()
        for name in list(self._runners):
            self._end(name)

    async def settle(self) -> None:
        """Wait until the connections of ended runners are gone and their last verdicts are told."""
        async with self._settling:
            ending, self._ending = self._ending, []
            for runner in ending:
                with contextlib.suppress(TimeoutError):
                    await runner.close(CLOSE_SECONDS)

    def _begin(self, entry: RunnerEntry) -> RunnerEgress:
        return RunnerEgress(entry.name, _readable(entry), self._config, self._lookup, self._emit, self._room)

    def _end(self, name: RunnerName) -> None:
        runner = self._runners.pop(name)
        runner.cut()
        self._ending.append(runner)

    # --- connections ---

    def connection(self) -> ClientConnection:
        """For `loop.create_server`."""
        return ClientConnection(self)

    def meet(self, transport: asyncio.BaseTransport, /) -> Standing:
        known = self._table.at(_peer(transport)) if self._usable() else ()
        return self._runners[known[-1].name] if known else self.strangers

    def identify(self, transport: asyncio.BaseTransport, head: RequestHead, /) -> RunnerEgress | Unidentified:
        """Looked up again: the table may have changed since the connection was made."""
        if not self._usable():
            return self._refused(self.strangers, "gateway_stopping" if self.stopping else "table_stale")
        address = _peer(transport)
        here = self._table.at(address)
        digest = presented_digest(head)
        if digest:
            for entry in here:
                if matches(entry, digest):
                    return self._runners[entry.name]
            self._look_for_owner(digest, here[-1].runner if here else "", address)
        if not here:
            return self._refused(self.strangers, "caller_unknown")
        reason = "credential_missing" if digest is None else "credential_wrong"
        return self._refused(self._runners[here[-1].name], reason)

    def _usable(self) -> bool:
        return not self.stopping and self._table.fresh(self._loop.time())

    def _refused(self, standing: Standing, reason: str) -> Unidentified:
        return Unidentified(standing, reason, _HINTS[reason])

    def _look_for_owner(self, digest: str, runner: str, address: str) -> None:
        owner = self._table.owner(digest)
        if owner is None:
            return
        self.misuses += 1
        if self.misuses <= LOGGED_MISUSES:
            told = {"owner": owner.runner, "runner": runner, "peer_address": address}
            log.error("a job's credential came from elsewhere", extra=told)
        self._misused(owner.runner, runner, address)

    # --- time ---

    async def run(self) -> None:
        """Look after timeouts, sums and ended runners, until cancelled."""
        timeouts = (self._config.head_timeout_seconds, self._config.idle_timeout_seconds)
        pause = min(*timeouts, 4 * MAX_SWEEP_SECONDS) / 4
        while True:
            await asyncio.sleep(pause)
            now = self._loop.time()
            for standing in (*self._runners.values(), *self._ending, self.strangers):
                standing.sweep(now)
            await self.settle()

    async def close(self) -> None:
        """Cut everybody off; the last verdicts are told when this returns."""
        self.stopping = True
        self.forget("the gateway ends")
        await self.settle()
        self.strangers.cut()


def _readable(entry: RunnerEntry) -> RuleSet:
    try:
        return _rule_set(entry.rules)
    except ConfigurationError as error:
        # The daemon has checked them; whatever this is, it allows nothing.
        log.error("a runner's rules cannot be read: %s", error, extra={"runner": entry.runner})  # noqa: TRY400
        return NO_RULES


@functools.lru_cache(maxsize=256)
def _rule_set(rules: tuple[Rule, ...]) -> RuleSet:
    """Runners of one pool have the same rules, and reading them is the dearest part of a large table."""
    return RuleSet([EgressRule(rule.host, rule.port, rule.protocol) for rule in rules])


def _peer(transport: asyncio.BaseTransport) -> str:
    """The peer's address, in the table's spelling; empty when it is gone already."""
    name = transport.get_extra_info("peername")
    try:
        return canonical_address(str(name[0])) if name else ""
    except GiveUpError:
        return ""
