"""What a verification found: the verdict, the four answers, and what does not count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.verdicts import heading
from orchestrator.cli.render.words import plain
from orchestrator.evidence.attestations.verifying import Verification

_QUESTIONS: Final = {
    "what": "What",
    "source": "From which source",
    "system": "By which system",
    "policy": "Under which policy",
}
_MOST_REFUSED: Final = 20


def verification_detail(found: Verification, *, asked: int, by_daemon: bool) -> Group:
    """`asked` is how many attestations were looked at; `by_daemon`: the key came from the daemon itself."""
    trust = "the daemon's own key; keep it elsewhere and name it with --key" if by_daemon else "the keys named"
    parts: list[RenderableType] = [Text.assemble("Artifact ", (plain(found.digest), "bold"))]
    if found.missing:
        parts.append(Text("  NOT VERIFIED", "bold red"))
        parts += [Text(f"  - {plain(one)}", "red") for one in found.missing]
    else:
        parts.append(Text(f"  verified, by {trust}", "green"))
    for name, title in _QUESTIONS.items():
        parts += [Text(), heading(title), _answer(found.answers[name])]
    return Group(*parts, *_statements(found, asked), *_refused(found))


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _answer(answer: Mapping[str, Any]) -> Table:
    table = _grid()
    for name, value in answer.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        table.add_row(f"  {plain(name.replace('_', ' '))}", Text(plain(shown)))
    if not answer:
        table.add_row("  not known", Text())
    return table


def _statements(found: Verification, asked: int) -> list[RenderableType]:
    table = _grid()
    facts = found.facts
    for one in facts["signatures"]:
        table.add_row("  signature", Text(f"by {plain(one['signer'])}"))
    for one in facts["sboms"]:
        table.add_row("  sbom", Text(f"{one['format']}, {one['components']} components, {_by(one)}"))
    for one in facts["provenances"]:
        level = f"level {one['level']}" if one["level"] else "not judged (--builder)"
        table.add_row("  provenance", Text(f"{plain(one['builder'])}, {level}, by {plain(one['signer'])}"))
    for one in facts["scans"]:
        counts = ", ".join(f"{number} {name}" for name, number in one["counts"].items())
        table.add_row("  scan", Text(f"{plain(one['scanner'])} at {one['finished_at']}: {counts}; {_by(one)}"))
    for one in found.summaries:
        table.add_row("  summary", Text(plain(f"{one['result']} for {one['environment']} at {one['verified_at']}")))
    if not table.row_count:
        table.add_row("  none counts", Text(f"of {asked} looked at"))
    return [Text(), heading("Signed statements"), table]


def _by(entry: Mapping[str, Any]) -> str:
    reporter = entry.get("reporter")
    return f"reported by the job {plain(reporter['job'])}" if reporter else f"by {plain(entry['signer'])}"


def _refused(found: Verification) -> list[RenderableType]:
    refused = found.facts["refused"]
    if not refused:
        return []
    table = _grid()
    for one in refused[:_MOST_REFUSED]:
        table.add_row(f"  {plain(one['reason'])}", Text(plain(one["attestation"] or "not readable")))
    return [Text(), heading("Do not count"), table]
