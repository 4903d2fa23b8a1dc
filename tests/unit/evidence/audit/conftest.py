"""A key, events, and logs that were written by the real writer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import AuditEvent, prepare
from orchestrator.evidence.audit.store import AuditStore, Pace

SECOND = 1_000_000_000


def event(number: int = 1, **changes: Any) -> AuditEvent:
    given: dict[str, Any] = {
        "kind": "token.issued",
        "at_ns": 1_800_000_000 * SECOND + number,
        "actor": "policy",
        "workflow": "build",
        "commit": "c" * 40,
        "environment": "prod",
        "outcome": "allow",
        "job_id": "dispatch.aa11.1",
        "trace_id": "ab" * 16,
        "data": {"audience": "sts.example", "jti": f"{number:032x}"},
        "journal_seq": number,
    }
    return AuditEvent(**(given | changes))


class Clock:
    """Monotonic time that moves only when told to."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def key() -> NoteKey:
    return NoteKey.generate("ci.example/audit")


@pytest.fixture
def written(tmp_path: Path, key: NoteKey) -> Callable[..., Path]:
    """Write a log of `count` records, `group` in each commit; a checkpoint after each `every`."""

    def write(count: int, *, group: int = 5, every: int = 10, segment: int = 64 << 20, name: str = "audit") -> Path:
        folder = tmp_path / name
        store = AuditStore.open(folder, key, Clock(), Pace(checkpoint_records=every, segment_bytes=segment))
        while store.size < count:
            numbers = range(store.size + 1, min(store.size + group, count) + 1)
            assert store.commit([prepare(event(number)) for number in numbers])
            store.checkpoint_if_due()
        store.close()
        return folder

    return write


def lines(folder: Path) -> list[bytes]:
    """All lines of a log, with their newlines."""
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines(keepends=True)]


def put(folder: Path, new: Sequence[bytes]) -> None:
    """Put other lines into a log of one segment."""
    [path] = folder.glob("*.jsonl")
    path.write_bytes(b"".join(new))
