"""Which runners there are, as the daemon tells its gateways: who they are, where they are, what they may reach. Pure.

The daemon numbers the states of its table. A gateway names the version it holds and is told what has changed since,
or everything. A table is good for `max_age` seconds from the moment the gateway asked for it, never longer: a gateway
that cannot hear of a revocation refuses everything.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Annotated

import msgspec

from orchestrator.egress.rules import MAX_RULES
from orchestrator.errors import GiveUpError
from orchestrator.model.egress import EgressProtocol
from orchestrator.model.runner import RunnerName

MAX_RUNNERS = 20_000
MAX_ADDRESSES = 4
"""Addresses of one runner: a pod has one for each IP family."""
MAX_UPDATE_BYTES = 64 << 20
"""Longest message that a gateway reads."""
MIN_AGE_SECONDS = 0.5
MAX_AGE_SECONDS = 300.0

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_Address = Annotated[str, msgspec.Meta(min_length=2, max_length=45)]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
_Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}-[0-9]{1,15}$")]


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """An `EgressRule` as `[host, port, protocol]`."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    protocol: EgressProtocol


class RunnerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One runner. `credential_sha256` is the digest of its job's credential: a gateway cannot tell the credential."""

    runner: _Name
    addresses: Annotated[tuple[_Address, ...], msgspec.Meta(min_length=1, max_length=MAX_ADDRESSES)]
    """Each once, in the spelling of `canonical_address`."""
    credential_sha256: _Digest
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=MAX_RULES)] = ()

    @property
    def name(self) -> RunnerName:
        return RunnerName(self.runner)


class TableUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a poll. `full` says that `runners` is the whole table; else `runners` and `gone` are what changed.

    `size` is how many runners the table has afterwards, so that a lost change cannot stay unseen.
    """

    version: _Version
    max_age: Annotated[float, msgspec.Meta(ge=MIN_AGE_SECONDS, le=MAX_AGE_SECONDS)]
    full: bool
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_RUNNERS)]
    runners: Annotated[tuple[RunnerEntry, ...], msgspec.Meta(max_length=MAX_RUNNERS)] = ()
    gone: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=MAX_RUNNERS)] = ()


class TableError(ValueError):
    """A message that is no update of this table."""


def encode_update(update: TableUpdate) -> bytes:
    return msgspec.json.encode(update)


_decoder = msgspec.json.Decoder(TableUpdate)


def decode_update(data: bytes) -> TableUpdate:
    """Raises TableError."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise TableError("the table cannot be read") from error


def canonical_address(text: str) -> str:
    """One spelling for each address; an IPv4 peer of an IPv6 listener (`::ffff:a.b.c.d`) is an IPv4 peer.

    Raises:
        GiveUpError: reason `runner_address_invalid`.
    """
    try:
        address = ip_address(text)
    except ValueError:
        raise GiveUpError("the runner's address is no IP address", reason="runner_address_invalid") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


@dataclass(frozen=True, slots=True)
class Changes:
    """Whose egress ends, whose begins, and who goes by other rules. A runner that is told anew with another address or
    credential is in both of the first two: whoever was connected as it was another one."""

    ended: tuple[RunnerName, ...]
    begun: tuple[RunnerEntry, ...]
    changed: tuple[RunnerEntry, ...] = ()


class RunnerTable:
    """A gateway's copy. Times are those of one steady clock, in seconds."""

    def __init__(self) -> None:
        self.version = ""
        """What the copy is, empty when there is none."""
        self.expires_at = 0.0
        self._runners: dict[RunnerName, RunnerEntry] = {}
        self._by_address: dict[str, list[RunnerEntry]] = {}
        self._by_digest: dict[str, RunnerEntry] = {}

    def __len__(self) -> int:
        return len(self._runners)

    def fresh(self, now: float) -> bool:
        return bool(self.version) and now < self.expires_at

    def apply(self, update: TableUpdate, asked_at: float) -> Changes:
        """Take over an update that was asked for at `asked_at`.

        Raises:
            TableError: it does not fit what is here. Nothing is changed then; ask for the whole table.
        """
        if not update.full and not self.version:
            raise TableError("changes to a table that is not here")
        told = {entry.name: entry for entry in update.runners}
        named = (name for name in self._runners if name not in told) if update.full else map(RunnerName, update.gone)
        gone = dict.fromkeys(name for name in named if name in self._runners)
        kept = len(self._runners) - len(gone)
        size = kept + sum(name not in self._runners or name in gone for name in told)
        if size != update.size:
            raise TableError(f"the table has {size} runners, not {update.size}")
        news = [entry for entry in told.values() if entry.name in gone or self._runners.get(entry.name) != entry]
        same = {entry.name for entry in news if entry.name not in gone and self._is_same(entry)}
        begun = tuple(entry for entry in news if entry.name not in same)
        ended = tuple(gone | dict.fromkeys(entry.name for entry in begun if entry.name in self._runners))
        for name in (*ended, *same):
            self._remove(name)
        for entry in news:
            self._add(entry)
        self.version, self.expires_at = update.version, asked_at + update.max_age
        return Changes(ended, begun, tuple(entry for entry in news if entry.name in same))

    def clear(self) -> None:
        """Know nobody."""
        self.version, self.expires_at = "", 0.0
        self._runners.clear()
        self._by_address.clear()
        self._by_digest.clear()

    def at(self, address: str) -> Sequence[RunnerEntry]:
        """The runners of an address, the latest told last; more than one while an address changes hands."""
        return self._by_address.get(address, ())

    def owner(self, digest: str) -> RunnerEntry | None:
        """Whose credential has this SHA-256 (hex); to tell a stolen one from a wrong one, never to let anybody in."""
        return self._by_digest.get(digest)

    def _is_same(self, entry: RunnerEntry) -> bool:
        """Whether it is a runner that is here already, whatever its rules."""
        held = self._runners.get(entry.name)
        return held is not None and held.addresses == entry.addresses and matches(held, entry.credential_sha256)

    def _add(self, entry: RunnerEntry) -> None:
        self._runners[entry.name] = self._by_digest[entry.credential_sha256] = entry
        for address in entry.addresses:
            self._by_address.setdefault(address, []).append(entry)

    def _remove(self, name: RunnerName) -> None:
        entry = self._runners.pop(name)
        if self._by_digest.get(entry.credential_sha256) is entry:
            del self._by_digest[entry.credential_sha256]
        for address in entry.addresses:
            here = self._by_address[address]
            here.remove(entry)
            if not here:
                del self._by_address[address]


def matches(entry: RunnerEntry, digest: str) -> bool:
    """Whether `digest` (hex) is that of the runner's credential, told in constant time."""
    return hmac.compare_digest(entry.credential_sha256.encode("ascii"), digest.encode("ascii"))
