"""`orchestrator policy decisions`: what was decided, and on what."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.policy.log import Folder, Since, Until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.policy.decision_log.entry import Entry
    from orchestrator.policy.decision_log.reading import Finding, Window

EXAMPLES = (
    "orchestrator policy decisions --denied --since 2h",
    "orchestrator policy decisions --differing --since 7d",
    "orchestrator policy decisions --job 3f2a --input --json",
)


def policy_decisions(
    folder: Folder = None,
    since: Since = "24h",
    until: Until = "",
    job: Annotated[str, typer.Option(help="Only of this job: its id, or a part of it.")] = "",
    decision: Annotated[str, typer.Option("--id", help="Only the decision with this id, or a beginning of it.")] = "",
    environment: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only for this environment; '' for those for none.")
    ] = None,
    stage: Annotated[
        str, typer.Option(metavar="STAGE", help="Only at this stage: admission, exchange, check, deployment.")
    ] = "",
    denied: Annotated[bool, typer.Option("--denied", help="Only what was not allowed.")] = False,
    differing: Annotated[
        bool, typer.Option("--differing", help="Only what the candidate would have answered differently.")
    ] = False,
    last: Annotated[int, typer.Option(min=0, max=1_000_000, help="Only the last so many. 0: all.")] = 0,
    with_input: Annotated[bool, typer.Option("--input", help="With the whole document that was judged.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print them as one JSON document.")] = False,
) -> None:
    """Print decisions, oldest first in each file of the log.

    Every document is compared with the digest that its decision recorded. What is damaged or missing is told on
    standard error, and the exit code is then 1.
    """
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.policy.log import log_folder, readable, tell_problems, window_of

    def fits(entry: Entry, told: dict[str, Any]) -> bool:
        candidate = told["candidate"]
        return (
            job in entry.custom.job_id
            and entry.decision_id.startswith(decision)
            and environment in (None, told["environment"])
            and stage in ("", told["stage"])
            and not (denied and told["verdict"] == "allow")
            and not (differing and (candidate is None or candidate["change"] == "same"))
        )

    problems: list[Finding] = []
    chosen, window = log_folder(folder), window_of(since, until)
    found = _entries(chosen, window, fits, problems, with_input=with_input or json)
    kept = deque(found, maxlen=last) if last else found
    readable(lambda: _print(kept, with_input=with_input, json=json))
    if tell_problems(problems):
        raise typer.Exit(ExitCode.FAILURE)


def _entries(
    folder: Path,
    window: Window,
    fits: Callable[[Entry, dict[str, Any]], bool],
    problems: list[Finding],
    *,
    with_input: bool,
) -> Iterator[dict[str, Any]]:
    from orchestrator.policy.decision_log.reading import SegmentReader, chosen, missing_between

    spans = []
    for segment in chosen(folder, window):
        reader = SegmentReader(segment)
        for entry in reader.entries():
            if window.holds(entry) and fits(entry, told := _told(entry)):
                yield told | (_documents(entry) if with_input else {})
        problems += reader.findings
        spans.append(reader.span)
    problems += missing_between(spans)


def _told(entry: Entry) -> dict[str, Any]:
    from orchestrator.policy.decision_log.entry import EntryDamagedError, subject_of

    subject, shadow = subject_of(entry), entry.custom.candidate
    try:
        document = entry.evaluation().document
    except EntryDamagedError:
        document = None
    return {
        "decision_id": entry.decision_id,
        "timestamp": entry.timestamp,
        "verdict": entry.custom.verdict.value,
        "stage": entry.custom.stage,
        "job_id": entry.custom.job_id,
        "environment": subject.environment,
        "audience": subject.audience,
        "pool": subject.pool_name,
        "repository": subject.repository,
        "caller": subject.caller_subject,
        "bundle_digest": entry.bundle_digest,
        "input_digest": entry.custom.input_digest,
        "engine": entry.custom.engine,
        "duration_ns": entry.metrics.get("timer_server_handler_ns", 0),
        "codes": [reason.code for reason in document.reasons] if document else [],
        "observed": [reason.code for reason in document.observed] if document else [],
        "waived": [code for waiver in document.waived for code in waiver.codes] if document else [],
        "error": entry.error.message if entry.error else "",
        "candidate": None
        if shadow is None
        else {
            "change": shadow.change,
            "verdict": shadow.verdict.value,
            "codes": list(shadow.codes),
            "detail": shadow.detail,
        },
    }


def _documents(entry: Entry) -> dict[str, Any]:
    import json

    import msgspec

    result = b"null" if isinstance(entry.result, msgspec.UnsetType) else bytes(entry.result)
    return {
        "result": json.loads(result),
        "input": json.loads(entry.input_json) if entry.input_json else None,
    }


def _print(found: Iterator[dict[str, Any]] | deque[dict[str, Any]], *, with_input: bool, json: bool) -> None:
    import sys
    from json import dumps

    from orchestrator.cli.output import note, show
    from orchestrator.cli.render.policy import decision_line
    from orchestrator.cli.render.words import plain

    if json:
        # One document, written as it is read: a log may be larger than memory.
        sys.stdout.write('{"decisions": [')
        for number, told in enumerate(found):
            if not with_input:
                told.pop("input")
            sys.stdout.write(("," if number else "") + "\n  " + dumps(told))
        sys.stdout.write("\n]}\n")
        return
    any_fits = False
    for told in found:
        any_fits = True
        show(decision_line(told))
        if with_input:
            sys.stdout.write(plain(dumps(told["input"], indent=2), keep_lines=True) + "\n")
    if not any_fits:
        note("no decision fits")
