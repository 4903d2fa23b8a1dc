"""What a gateway of the cluster reports: verdicts and misused credentials, in numbered batches. Pure.

A batch is repeated under the same number until the daemon has taken it, so that none is counted twice and none is
lost to a cut connection. What waits is bounded; what does not fit is counted as lost.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

MAX_VERDICTS = 500
"""Verdicts of one batch."""
MAX_ALARMS = 64
"""Different misuses of one batch."""
MAX_WAITING = 20_000
"""Verdicts that wait for the daemon."""
MAX_TEXT = 1024
"""Longest text in a verdict."""
MAX_BATCH_BYTES = 4 << 20

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
GATEWAY_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"


class RunnerVerdict(msgspec.Struct, frozen=True):
    runner: _Name
    verdict: EgressDecided


class Misuse(msgspec.Struct, frozen=True):
    """The credential of `owner` came from an address that is not the owner's: the one of `runner`, or nobody's ("")."""

    owner: _Name
    runner: Annotated[str, msgspec.Meta(max_length=253)]
    address: Annotated[str, msgspec.Meta(max_length=64)]
    times: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)] = 1


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`gateway` is one gateway process. `lost` are the verdicts it had to drop since the last batch."""

    gateway: Annotated[str, msgspec.Meta(pattern=GATEWAY_ID)]
    batch: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    verdicts: Annotated[tuple[RunnerVerdict, ...], msgspec.Meta(max_length=MAX_VERDICTS)] = ()
    alarms: Annotated[tuple[Misuse, ...], msgspec.Meta(max_length=MAX_ALARMS)] = ()
    lost: _Count = 0


class BatchError(ValueError):
    """A message that is no batch."""


_decoder = msgspec.json.Decoder(Batch)


def decode_batch(data: bytes) -> Batch:
    """Raises BatchError."""
    try:
        batch = _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise BatchError("the batch cannot be read") from error
    if not all(plausible(one.verdict) for one in batch.verdicts):
        raise BatchError("a verdict in the batch cannot be one")
    return batch


def plausible(verdict: EgressDecided) -> bool:
    """Whether the sizes and signs of a verdict can be true; its types have been checked."""
    texts = (verdict.host, verdict.protocol, verdict.rule, verdict.reason, verdict.address)
    numbers = (verdict.port, verdict.bytes_up, verdict.bytes_down, verdict.duration_ns, verdict.connections)
    return all(len(text) <= MAX_TEXT for text in texts) and min(numbers) >= 0


class Outbox:
    """What a gateway process has still to report."""

    def __init__(self, gateway: str, max_waiting: int = MAX_WAITING) -> None:
        self.gateway = gateway
        self.lost = 0
        """Verdicts that were dropped in all."""
        self._max_waiting = max_waiting
        self._verdicts: list[RunnerVerdict] = []
        self._misuses: dict[tuple[str, str, str], int] = {}
        self._lost_untold = 0
        self._number = 0
        self._under_way: Batch | None = None

    def __len__(self) -> int:
        """How many verdicts and misuses wait, those under way included."""
        batch = self._under_way
        under_way = len(batch.verdicts) + len(batch.alarms) + bool(batch.lost) if batch else 0
        return len(self._verdicts) + len(self._misuses) + bool(self._lost_untold) + under_way

    def add(self, runner: RunnerName, verdict: EgressDecided) -> None:
        if len(self._verdicts) >= self._max_waiting:
            self._lose(verdict.connections)
            return
        self._verdicts.append(RunnerVerdict(runner, verdict))

    def misused(self, owner: str, runner: str, address: str) -> None:
        key = (owner, runner, address)
        if key in self._misuses or len(self._misuses) < MAX_ALARMS:
            self._misuses[key] = self._misuses.get(key, 0) + 1

    def next(self) -> Batch | None:
        """The batch to send now: the one under way until `taken` or `refused`, else what waits. None for nothing."""
        if self._under_way is None and len(self):
            verdicts, self._verdicts = self._verdicts[:MAX_VERDICTS], self._verdicts[MAX_VERDICTS:]
            alarms = tuple(Misuse(*key, times) for key, times in self._misuses.items())
            self._number += 1
            self._under_way = Batch(self.gateway, self._number, tuple(verdicts), alarms, self._lost_untold)
            self._misuses, self._lost_untold = {}, 0
        return self._under_way

    def taken(self) -> None:
        """The daemon has the batch."""
        self._under_way = None

    def refused(self) -> None:
        """The daemon will never take the batch: it is lost, and the next one says so."""
        batch, self._under_way = self._under_way, None
        if batch is not None:
            self._lose(sum(one.verdict.connections for one in batch.verdicts))
            self._lost_untold += batch.lost

    def _lose(self, connections: int) -> None:
        self.lost += connections
        self._lost_untold += connections
