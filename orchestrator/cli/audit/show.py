"""`orchestrator audit show`: what the records say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.audit.folder import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.evidence.audit.record import Record

EXAMPLES = (
    "orchestrator audit show --last 20",
    "orchestrator audit show --job 3f2a --json",
    "orchestrator audit show --kind token. --since 2h",
)


def audit_show(
    folder: Folder = None,
    job: Annotated[str, typer.Option(help="Only of this job: its id, or a part of it.")] = "",
    kind: Annotated[str, typer.Option(help="Only this kind, or kinds that begin so: token.issued, token.")] = "",
    trace: Annotated[str, typer.Option(help="Only with this trace id.")] = "",
    since: Annotated[str, typer.Option(help="Only since this time: 2026-01-31T12:00:00Z, or ago: 30m, 2h, 7d.")] = "",
    last: Annotated[int, typer.Option(min=0, max=1_000_000, help="Only the last so many. 0: all.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print them as one JSON document.")] = False,
) -> None:
    """Print records, oldest first. This does not check the log: `orchestrator audit verify` does.

    A line that is no record, or does not fit its own hash, is told on standard error, and the exit code is then 1.
    """
    from collections import deque

    from orchestrator.cli.audit.folder import log_folder
    from orchestrator.cli.exits import CommandError, ExitCode
    from orchestrator.cli.moments import moment_ns
    from orchestrator.cli.output import note, say

    since_ns = moment_ns(since, "--since") if since else 0
    damaged: list[str] = []

    def fits(record: Record) -> bool:
        return (
            record.at_ns >= since_ns
            and job in record.job_id
            and (record.kind.startswith(kind) if kind.endswith(".") else kind in ("", record.kind))
            and trace in ("", record.trace_id)
        )

    try:
        found: Iterator[Record] = (one for one in _records(log_folder(folder), damaged) if fits(one))
        if last:
            found = iter(deque(found, maxlen=last))
        if json:
            _print_json(found)
        else:
            record = None
            for record in found:
                say(_line(record))
            if record is None:
                note("no record fits")
    except OSError as error:
        raise CommandError(
            f"{error.filename} cannot be read: {error.strerror}", fix="check the path and its permissions"
        ) from None
    for text in damaged:
        note(text)
    if damaged:
        raise typer.Exit(ExitCode.FAILURE)


def _records(folder: Path, damaged: list[str]) -> Iterator[Record]:
    from orchestrator.evidence.audit.record import RecordDamagedError, read_line
    from orchestrator.evidence.audit.segments import lines_of, segments_of

    for segment in segments_of(folder):
        for number, line in enumerate(lines_of(segment.path), 1):
            if not line.endswith(b"\n"):
                continue
            try:
                yield read_line(line[:-1])
            except RecordDamagedError as error:
                if len(damaged) < 100:
                    damaged.append(f"{segment.path.name}, line {number}: {error}")


def _print_json(records: Iterator[Record]) -> None:
    """One document, written as it is read: a log may be larger than memory."""
    import sys

    out = sys.stdout
    out.write('{"records": [')
    for number, record in enumerate(records):
        out.write(",\n  " if number else "\n  ")
        out.write(_document(record))
    out.write("\n]}\n")


def _document(record: Record) -> str:
    from json import dumps

    from orchestrator.evidence.audit.record import data_of

    members: dict[str, Any] = {name: getattr(record, name) for name in record.__struct_fields__}
    return dumps(members | {"data": data_of(record)})


def _line(record: Record) -> str:
    from datetime import UTC, datetime
    from json import dumps

    from orchestrator.evidence.audit.record import data_of

    at = datetime.fromtimestamp(record.at_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    told = [f"{record.seq:>6} {at} {record.kind}"]
    for name in ("outcome", "job_id", "actor", "environment", "workflow", "commit", "trace_id"):
        value = getattr(record, name)
        if value:
            told.append(f"{name.removesuffix('_id')}={value}")
    data = data_of(record)
    if data:
        told.append(dumps(data, ensure_ascii=False, separators=(",", ":")))
    return " ".join(told)
