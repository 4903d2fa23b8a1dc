"""What is known of an artifact, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import plain

_MOST_LINES = 100
_LISTS = (("signatures", "signed"), ("sboms", "bill of materials"), ("provenances", "provenance"), ("scans", "scanned"))


def artifact_detail(artifact: Mapping[str, Any]) -> Group:
    """The facts, then each attestation with what it counts for."""
    facts = artifact["facts"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, word in _LISTS:
        table.add_row(f"  {word}", _entries(name, facts.get(name) or []))
    built = facts.get("built") or {}
    table.add_row("  built here", Text(_built(built) if built else f"no: {plain(facts.get('reason'))}"))
    parts: list[RenderableType] = [Text(plain(artifact["digest"]), "bold"), table, Text()]
    parts += _attestations(artifact["attestations"])
    return Group(*parts)


def _entries(name: str, entries: list[Mapping[str, Any]]) -> Text:
    if not entries:
        return Text("no", "magenta")
    told = "; ".join(f"{plain(entry['signer'])}{_more(name, entry)}" for entry in entries[:8])
    return Text(f"by {told}", "green")


def _more(name: str, entry: Mapping[str, Any]) -> str:
    reporter = entry.get("reporter") or {}
    by = f", reported by {plain(reporter.get('job'))}" if reporter else ""
    match name:
        case "sboms":
            return f" ({plain(entry.get('format'))}, {plain(entry.get('components'))} components{by})"
        case "provenances":
            return f" (level {plain(entry.get('level'))}, {plain(entry.get('builder'))})"
        case "scans":
            counts = ", ".join(f"{count} {word}" for word, count in (entry.get("counts") or {}).items() if count)
            finished = plain(entry.get("finished_at"))
            return f" ({plain(entry.get('scanner'))} at {finished}: {plain(counts) or 'nothing found'}{by})"
        case _:
            return by and f" ({by.removeprefix(', ')})"


def _built(built: Mapping[str, Any]) -> str:
    where = " ".join(plain(built[name]) for name in ("repository", "ref", "sha") if built.get(name))
    return f"{plain(built.get('name'))} by {plain(built.get('job'))}" + (f" from {where}" if where else "")


def _attestations(attestations: list[Mapping[str, Any]]) -> Iterator[Text]:
    """Two lines for each: its whole id, to be copied on any terminal, and what it is worth."""
    yield Text("ATTESTATIONS", "bold")
    for one in attestations[:_MOST_LINES]:
        worth, reason = ", ".join(map(plain, one["counts_for"])), plain(one["reason"])
        yield Text(plain(one["id"]))
        told = Text(f"  {plain(one['predicate_type']) or 'of no known type'} by ")
        told.append(f"{', '.join(map(plain, one['signers'])) or 'nobody known'}: ")
        if worth:
            yield told.append(f"counts as {worth}", "green")
        elif reason:
            yield told.append(f"counts for nothing: {reason}", "magenta")
        else:
            yield told.append("counts for no rule", "dim")
