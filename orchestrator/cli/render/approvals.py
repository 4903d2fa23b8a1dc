"""Approvals and exceptions for people: a table, a page of one, and what one is about to sign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import plain

_COUNTS = "counts"


def approval_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each object; ids are whole, to be copied."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("ID", "KIND", "ENVIRONMENT", "STATE", "UNTIL", "USES"):
        table.add_column(name, no_wrap=True)
    table.add_column("SIGNED BY", overflow="fold")
    for line in lines:
        state = plain(line["state"])
        due = " review!" if line["uses"] and not line["reviewed"] else ""
        table.add_row(
            Text(plain(line["id"])),
            Text(plain(line["kind"] or line["type"])),
            Text(plain(line["environment"])),
            Text(state, style="green" if state == _COUNTS else "dim"),
            Text(plain(line["expires_at"])),
            Text(f"{line['uses']}{due}" if line["type"] == "exception" else "", style="red" if due else ""),
            Text(plain(", ".join(line["signers"]))),
        )
    return table


def statement_lines(payload: bytes) -> Iterator[str]:
    """What a statement says, before somebody signs it."""
    document = json.loads(payload)
    yield f"{document['predicateType']}"
    yield from _fields(document["predicate"])


def approval_lines(view: Mapping[str, Any]) -> Iterator[str]:
    """All that the daemon knows of one object."""
    yield f"{view['type']} {view['id']}"
    yield from _fields(view["content"])
    yield f"  signed by: {plain(', '.join(view['signers'])) or 'nobody who counts'}"
    yield f"  given in: {view['added_at']} ({view['origin']})"
    yield f"  state: {view['state']}" + (f": {plain(view['detail'])}" if view["detail"] else "")
    for use in view["used"]:
        where = f"{use['stage']} {plain(use['audience'])}".strip()
        yield f"  use {use['number']}: {use['at']} job {use['job_id']}, {where}: {', '.join(use['waived'])}"
    for review in view["reviews"]:
        yield f"  review: {review['verdict']} by {plain(', '.join(review['by']))}: {plain(review['reason'])}"
    if view["revoked"]:
        by = plain(", ".join(view["revoked"]["by"])) or "the daemon's operator"
        yield f"  revoked: {view['revoked']['at']} by {by}: {plain(view['revoked']['reason'])}"
    told = view["for_job"]
    if told:
        why = (
            "counts" if told["counts"] else f"does not count [{told['reason']}]: {plain(told['detail'])}; {told['fix']}"
        )
        yield f"  for job {told['job_id']}: {why}"


def _fields(content: Mapping[str, Any]) -> Iterator[str]:
    for name, value in content.items():
        if value not in ("", [], None):
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"  {name}: {plain(shown)}"
