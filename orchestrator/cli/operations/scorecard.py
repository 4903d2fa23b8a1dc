"""`orchestrator scorecard`: the four metrics and the checklist, now and against a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.session import client_of

EXAMPLES = (
    "orchestrator scorecard",
    "orchestrator scorecard --save baseline.json",
    "orchestrator scorecard --baseline baseline.json --report scorecard.md",
)
_MAX_BYTES = 4 << 20


def scorecard(
    context: typer.Context,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", metavar="FILE", help="A scorecard saved before, to compare with.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Keep this scorecard, as JSON, for a later comparison."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write it as a page in Markdown.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 while a point is unmet.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show secret age, permission scope, artifact traceability and policy coverage, and the eight points with evidence.

    For operators. What each number means: docs/reference/metrics.md.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.render.accounts import checklist_lines, score_lines

    before = _read(baseline) if baseline else None
    card = client_of(context).read("/v1/scorecard")
    if save:
        _write(save, _as_json(card))
    if report:
        _write(report, "\n".join(page(card, before)) + "\n")
    if json:
        output.print_json(card)
    else:
        for line in score_lines(card, before):
            output.say(line)
        output.say("")
        output.show(*checklist_lines(card))
    if strict and any(point["state"] == "unmet" for point in card["checklist"]):
        raise typer.Exit(ExitCode.FAILURE)


def page(card: dict[str, Any], before: dict[str, Any] | None) -> Iterator[str]:
    """The scorecard as a page in Markdown."""
    from orchestrator.cli.render.accounts import FIGURES, figure, shown
    from orchestrator.cli.render.words import plain

    yield f"# Scorecard of {plain(card['at'])[:19]}Z"
    yield ""
    yield f"Counted since {plain(card['counted_since'])[:19]}Z; shares are of the last {card['window_days']} days."
    yield ""
    yield f"| figure | now |{' before |' if before else ''}"
    yield f"| --- | --- |{' --- |' if before else ''}"
    for name, label, unit in FIGURES:
        was = f" {shown(figure(before, name), unit)} |" if before else ""
        yield f"| {label} | {shown(figure(card, name), unit)} |{was}"
    yield ""
    yield "## Checklist"
    yield ""
    yield "| point | state | evidence | to do |"
    yield "| --- | --- | --- | --- |"
    for point in card["checklist"]:
        evidence = plain("; ".join(point["evidence"])).replace("|", "/")
        yield f"| {point['number']}. {point['title']} | {point['state']} | {evidence} | {point['fix']} |"


def _read(path: Path) -> dict[str, Any]:
    import json

    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.jobs.jobfile import read_text

    try:
        found = json.loads(read_text(path))
    except ValueError:
        found = None
    if not isinstance(found, dict) or "secret_age" not in found:
        raise UsageError(f"{path} is no scorecard", fix="make one with: orchestrator scorecard --save FILE")
    return found


def _as_json(card: dict[str, Any]) -> str:
    import json

    return json.dumps(card, indent=2, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> None:
    from orchestrator.cli.exits import CommandError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", fix="check the path and its permissions") from None
