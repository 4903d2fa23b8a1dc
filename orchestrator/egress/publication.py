"""The daemon's table of runners with the history of its changes. Pure."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.egress.rules import check_rules
from orchestrator.egress.table import (
    MAX_ADDRESSES,
    MAX_RUNNERS,
    Rule,
    RunnerEntry,
    TableUpdate,
    canonical_address,
)
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.egress import EgressRule
from orchestrator.model.runner import RunnerName

MAX_GONE = 8192
"""Withdrawals that are remembered; a gateway that missed more gets the whole table."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """What a runner had before `version`, and until when (loop time). If `inherited`, it may be in a table that
    another daemon gave out."""

    version: int
    inherited: bool
    at: float


def runner_entry(
    runner: RunnerName, addresses: Iterable[str], credential_sha256: str, rules: Sequence[EgressRule]
) -> RunnerEntry:
    """What a gateway is told of a runner.

    Raises:
        ConfigurationError: reason `egress_rule_invalid`.
        GiveUpError: reason `runner_address_invalid`, `runner_credential_invalid` or `egress_rules_too_many`.
    """
    check_rules(rules)
    if len(credential_sha256) != 64 or set(credential_sha256) - set("0123456789abcdef"):
        raise GiveUpError("the credential's digest is no SHA-256 in hex", reason="runner_credential_invalid")
    known = tuple(dict.fromkeys(map(canonical_address, addresses)))
    if not 1 <= len(known) <= MAX_ADDRESSES:
        raise GiveUpError(f"a runner has 1 to {MAX_ADDRESSES} addresses", reason="runner_address_invalid")
    listed = tuple(Rule(rule.host, rule.port, rule.protocol) for rule in rules)
    return RunnerEntry(runner, known, credential_sha256, listed)


class Publication:
    """Versions count up from 1; a random epoch before the number tells them from another daemon's."""

    def __init__(self) -> None:
        self.number = 1
        """The current version."""
        self._epoch = secrets.token_hex(8)
        self._runners: dict[RunnerName, tuple[int, RunnerEntry]] = {}  # in the order of their changes
        self._gone: deque[tuple[int, RunnerName]] = deque()
        self._forgotten = 0

    def __contains__(self, runner: RunnerName) -> bool:
        return runner in self._runners

    def entry(self, runner: RunnerName) -> RunnerEntry | None:
        """The runner as gateways are told of it."""
        held = self._runners.get(runner)
        return held[1] if held is not None else None

    def version_of(self, runner: RunnerName) -> int:
        """Since which version the runner is as it is now, 0 when it is not there."""
        return self._runners[runner][0] if runner in self._runners else 0

    def put(self, entry: RunnerEntry) -> bool:
        """False when it is there already, just so.

        Raises:
            TryAgainError: reason `gateway_table_full`.
        """
        held = self._runners.get(entry.name)
        if held is not None and held[1] == entry:
            return False
        if held is None and len(self._runners) >= MAX_RUNNERS:
            raise TryAgainError(f"the gateways' table holds {MAX_RUNNERS} runners", reason="gateway_table_full")
        self._runners.pop(entry.name, None)
        self.number += 1
        self._runners[entry.name] = (self.number, entry)
        return True

    def remove(self, runner: RunnerName) -> bool:
        """False when it is not there."""
        if self._runners.pop(runner, None) is None:
            return False
        self.number += 1
        self._gone.append((self.number, runner))
        while len(self._gone) > MAX_GONE:
            self._forgotten = self._gone.popleft()[0]
        return True

    def known(self, version: str) -> int | None:
        """The number of a version of this publication; None for no version, and for another daemon's."""
        epoch, _, number = version.partition("-")
        if epoch != self._epoch or not 1 <= len(number) <= 15 or not (number.isascii() and number.isdecimal()):
            return None
        return int(number) if 1 <= int(number) <= self.number else None

    def update(self, holds: int | None, max_age: float) -> TableUpdate:
        """What a gateway that holds version `holds`, or None, has to be told."""
        version, size = f"{self._epoch}-{self.number}", len(self._runners)
        if holds is None or holds < self._forgotten:
            everybody = tuple(entry for _, entry in self._runners.values())
            return TableUpdate(version, max_age, full=True, size=size, runners=everybody)
        changed: list[RunnerEntry] = []
        for since, entry in reversed(self._runners.values()):
            if since <= holds:
                break
            changed.append(entry)
        gone: dict[str, None] = {}
        for at, name in reversed(self._gone):
            if at <= holds:
                break
            gone[name] = None
        changes = tuple(reversed(changed))
        return TableUpdate(version, max_age, full=False, size=size, runners=changes, gone=tuple(gone))
