"""What checking a log found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """What is wrong with the first bad record."""

    DAMAGED = "damaged"
    MISSING = "missing"
    OUT_OF_ORDER = "out_of_order"
    INSERTED = "inserted"
    REPLACED = "replaced"
    CUT_OFF = "cut_off"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first bad record is one of `first` to `last` (`seq`); `where` names the file and line, or the checkpoint."""

    fault: Fault
    first: int
    last: int
    why: str
    where: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A checkpoint that says nothing, since its signature does not hold or it cannot be read."""

    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """`records` are those that hold, from the first; `root` is the tree's over them, in hexadecimal.

    `checkpoints` hold over them, the largest of `vouched` records; `external` of these came from outside of the
    folder. `torn_bytes` are the unfinished end of a write, which no one was told of. `fragments` are parts of outside
    files that are no notes, beside checkpoints that hold.
    """

    key: str
    records: int
    root: str
    checkpoints: int
    external: int
    vouched: int
    torn_bytes: int
    finding: Finding | None = None
    refused: tuple[Refused, ...] = ()
    fragments: tuple[Refused, ...] = ()

    @property
    def ok(self) -> bool:
        return self.finding is None and not self.refused

    def as_json(self) -> dict[str, Any]:
        finding = self.finding
        return {
            "ok": self.ok,
            "key": self.key,
            "records": self.records,
            "root": self.root,
            "checkpoints": self.checkpoints,
            "external_checkpoints": self.external,
            "vouched_records": self.vouched,
            "torn_bytes": self.torn_bytes,
            "finding": None
            if finding is None
            else {
                "fault": finding.fault.value,
                "first": finding.first,
                "last": finding.last,
                "why": finding.why,
                "where": finding.where,
            },
            "refused_checkpoints": [{"where": one.where, "why": one.why} for one in self.refused],
            "fragments": [{"where": one.where, "why": one.why} for one in self.fragments],
        }
