"""What a job reached and tried to reach, counted while its verdicts come and told once, at its end. Pure.

A host that nobody granted is the job's own word, and may carry what it wants to carry out: it is told as a keyed hash.
"""

from __future__ import annotations

from typing import Any, Final

from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.model.events import EgressDecided

MAX_ROWS: Final = 32
"""Destinations of one job that are told apart, of each kind; the others are counted together."""


MAX_INT: Final = 2**63 - 1


def bounded(number: int) -> int:
    """What a record can carry of a number that the world chose."""
    return max(-MAX_INT, min(number, MAX_INT))


class EgressTally:
    """Of one job. The agent's own proof that forbidden egress fails is counted apart."""

    def __init__(self) -> None:
        self._allowed: dict[str, list[int]] = {}
        self._refused: dict[tuple[str, int, str], int] = {}
        self._canaries = 0

    def add(self, verdict: EgressDecided) -> None:
        if verdict.canary:
            self._canaries += verdict.connections
        elif verdict.allowed:
            rule = verdict.rule if verdict.rule in self._allowed or len(self._allowed) < MAX_ROWS else ""
            sums = self._allowed.setdefault(rule, [0, 0, 0])
            sums[0] += verdict.connections
            sums[1] += verdict.bytes_up
            sums[2] += verdict.bytes_down
        else:
            key = (verdict.host, verdict.port, verdict.reason)
            if key not in self._refused and len(self._refused) >= MAX_ROWS:
                key = ("", 0, verdict.reason)
            if key in self._refused or len(self._refused) < 2 * MAX_ROWS:
                self._refused[key] = self._refused.get(key, 0) + verdict.connections

    def told(self, keyed: KeyedHash, granted: frozenset[str]) -> dict[str, Any]:
        """For a record. `granted` are the host names that policy had granted, which are no secret."""
        return {
            "allowed": [
                {
                    "rule": rule[:300],
                    "connections": bounded(sums[0]),
                    "bytes_up": bounded(sums[1]),
                    "bytes_down": bounded(sums[2]),
                }
                for rule, sums in sorted(self._allowed.items())
            ],
            "refused": [
                {
                    "host": host if host in granted else keyed.of("host", host),
                    "port": bounded(port),
                    "reason": reason[:64],
                    "connections": bounded(connections),
                }
                for (host, port, reason), connections in sorted(self._refused.items())
            ],
            "probes": bounded(self._canaries),
        }
