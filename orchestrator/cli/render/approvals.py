"""Approvals and exceptions for people: a table, a page of one, and what one is about to sign."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from orchestrator.cli.render.words import plain

_COUNTS = "counts"


def approval_entries(lines: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """Two lines for each object: its whole id, to be copied on any terminal, and how it stands."""
    for line in lines:
        state = plain(line["state"])
        yield Text(plain(line["id"]), "bold")
        told = Text(f"  {plain(line['kind'] or line['type'])}")
        if line["environment"]:
            told.append(f" for {plain(line['environment'])}")
        told.append(": ").append(state, "green" if state == _COUNTS else "magenta")
        if line["expires_at"]:
            told.append(f", until {plain(line['expires_at'])}")
        if line["type"] == "exception":
            told.append(f", used {line['uses']}x")
            told.append(", review it" if line["uses"] and not line["reviewed"] else "", "red")
        yield told.append(f", by {plain(', '.join(line['signers'])) or 'the operator'}")


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
