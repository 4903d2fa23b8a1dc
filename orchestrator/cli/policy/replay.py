"""`orchestrator policy replay`: what would another bundle have decided?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.policy.log import Folder, Since, Until

if TYPE_CHECKING:
    from orchestrator.policy.decision_log.replay import Plan, Progress
    from orchestrator.policy.decision_log.tally import Tally
    from orchestrator.policy.files import Bundle

EXAMPLES = (
    "orchestrator policy replay --bundle policies/ --since 30d",
    "orchestrator policy replay --bundle policies/ --environment prod --exit-status --json",
    "orchestrator policy replay /mnt/copy/decisions --bundle new/ --bundle-against old/",
)

_RECORDED = "recorded"
_TOLD_SECONDS = 2.0


def policy_replay(
    bundle: Annotated[
        Path, typer.Option("--bundle", metavar="DIR", help="The bundle to try. Its own tests run first.")
    ],
    folder: Folder = None,
    since: Since = "30d",
    until: Until = "",
    against: Annotated[
        str,
        typer.Option(
            "--bundle-against",
            metavar="DIR|DIGEST|recorded",
            help="Compare with what this bundle decides now, or with what was decided then (recorded).",
        ),
    ] = _RECORDED,
    environment: Annotated[
        str | None,
        typer.Option("--environment", metavar="NAME", help="Only jobs for this environment; '' for those for none."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=32, metavar="N", help="Processes. 0: as many as help.")
    ] = 0,
    exit_status: Annotated[
        bool,
        typer.Option("--exit-status", help="Exit with 1 when a decision would be another, or the log is damaged."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Decide the recorded decisions again with a changed bundle, and list what would change, and for whom.

    Needs no daemon, and may run beside one: the log is only read. Nothing is granted, refused or counted.
    """
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.output import note, print_json, show
    from orchestrator.cli.policy.log import log_folder, readable, tell_problems, window_of
    from orchestrator.cli.render.policy import replay_lines
    from orchestrator.policy.bundle import load_bundle
    from orchestrator.policy.decision_log.replay import Plan, replay

    chosen = log_folder(folder)
    plan = Plan(window_of(since, until), load_bundle(bundle), _old(against, chosen), environment)
    began = time.perf_counter()
    tally = readable(lambda: replay(chosen, plan, workers, _teller()))
    report = _report(tally, plan, chosen, time.perf_counter() - began)
    if json:
        print_json(report)
    else:
        show(*replay_lines(report))
    damaged = tell_problems(tally.problems())
    if not tally.replayed:
        note(f"no decision of that time was replayed from {chosen}")
    if exit_status and (tally.changed or damaged):
        raise typer.Exit(ExitCode.FAILURE)


def _old(against: str, folder: Path) -> Bundle | None:
    """The bundle to compare with; None for what was recorded.

    Raises:
        UsageError: a digest of no bundle that was kept.
        ConfigurationError: a folder whose bundle is refused.
    """
    if against == _RECORDED:
        return None
    from orchestrator.policy.bundle import load_bundle

    if not against.startswith("sha256:"):
        return load_bundle(Path(against))
    from orchestrator.cli.exits import UsageError
    from orchestrator.policy.decision_log.bundles import BundleArchive
    from orchestrator.policy.files import bundle_of

    contents = BundleArchive(folder / "bundles").read(against)
    if contents is None:
        raise UsageError(
            f"no bundle {against[:80]} is kept beside the log",
            fix="give the whole digest of one that was in force here, or the folder of a bundle",
        )
    return bundle_of(contents, against)


def _report(tally: Tally, plan: Plan, folder: Path, seconds: float) -> dict[str, Any]:
    from orchestrator.policy.input import rfc3339

    return {
        "bundle": plan.new.digest,
        "against": plan.old.digest if plan.old else _RECORDED,
        "log": str(folder),
        "since": rfc3339(plan.window.since_ns),
        "until": rfc3339(plan.window.until_ns),
        "environment": plan.environment,
        **tally.as_json(),
        "seconds": round(seconds, 3),
        "per_second": round(tally.replayed / seconds) if seconds else 0,
    }


def _teller() -> Progress:
    """Says how far it is, now and then, where a person looks on."""
    import sys

    from orchestrator.cli.output import note

    told = time.monotonic()

    def tell(done: int, files: int, decisions: int) -> None:
        nonlocal told
        if sys.stderr.isatty() and time.monotonic() - told > _TOLD_SECONDS:
            told = time.monotonic()
            note(f"{decisions} decisions replayed, {done} of {files} files")

    return tell
