"""Decisions of policy, and what a replay and a bundle's history say, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render.words import plain, short_id

if TYPE_CHECKING:
    from rich.console import RenderableType

_MOST_ROWS = 10
_MOST_JOBS = 20
CHANGES = {
    "failed": "error",
    "newly_denied": "newly denied",
    "newly_allowed": "newly allowed",
    "other_reasons": "other reasons",
    "other_obligations": "other obligations",
    "other_observations": "other observations",
}
_COLOURS = {"failed": "bold red", "newly_denied": "red", "newly_allowed": "yellow"}
_VERDICTS = {"allow": "green", "deny": "red", "error": "bold red", "undefined": "bold red"}
_TITLES = {
    "rule": "By rule",
    "environment": "By environment",
    "repository": "By repository",
    "pool": "By pool",
    "caller": "By caller",
}


def replay_lines(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """What a replay found: how many decisions would change in which way, then for whom."""
    from rich.text import Text

    counts = report["decisions"]
    yield Text(f"{counts['replayed']} decisions since {plain(report['since'])[:19]}Z, decided again", "bold")
    yield Text(f"  by       {plain(report['bundle'])}")
    yield Text(f"  against  {'what was decided then' if report['against'] == 'recorded' else plain(report['against'])}")
    yield Text(f"  {counts['unchanged']:>8} would be the same")
    for kind, words in CHANGES.items():
        if report["changes"][kind]:
            yield Text(f"  {report['changes'][kind]:>8} {words}", _COLOURS.get(kind, ""))
    if counts["without_input"]:
        yield Text(f"  {counts['without_input']:>8} cannot be decided again: policy was not asked then", "dim")
    if counts["changed"]:
        yield Text(f"{report['jobs_changed']} jobs are concerned", "bold")
        for dimension, title in _TITLES.items():
            yield _groups(title, report["by"][dimension])
    versions = report["recorded_by_versions"]
    if len(versions) > 1:
        listed = ", ".join(f"{plain(version) or '?'} ({count})" for version, count in versions.items())
        yield Text(f"recorded by versions {listed}: an older one's documents may lack what new rules look at", "yellow")
    yield Text(f"{report['seconds']:.2f} s, {report['per_second']} decisions a second", "dim")


def _groups(title: str, groups: Sequence[Mapping[str, Any]]) -> RenderableType:
    from rich.table import Table

    kinds = [kind for kind in CHANGES if any(kind in group for group in groups)]
    table = Table(box=None, header_style="bold", title=None, pad_edge=False, padding=(0, 2, 0, 0))
    widest = max((len(plain(one["value"])) for one in groups[:_MOST_ROWS]), default=0)
    table.add_column(title, no_wrap=True, min_width=min(40, widest))
    for kind in kinds:
        table.add_column(CHANGES[kind], justify="right")
    table.add_column("for example")
    for group in groups[:_MOST_ROWS]:
        numbers = [str(group.get(kind, "")) for kind in kinds]
        table.add_row(
            plain(group["value"]) or "(none)", *numbers, ", ".join(short_id(job) for job in group["jobs"][:3])
        )
    if len(groups) > _MOST_ROWS:
        table.add_row(f"… and {len(groups) - _MOST_ROWS} more", *("" for _ in kinds), "--json has all")
    return table


def decision_line(told: Mapping[str, Any]) -> RenderableType:
    """One decision: when, what was asked, what was answered, why."""
    from rich.text import Text

    line = Text(f"{plain(told['timestamp'])[:23]}Z ", "dim")
    line.append(f"{told['verdict']:<9}", _VERDICTS.get(told["verdict"], ""))
    words = [told["stage"], short_id(told["job_id"]) if told["job_id"] else "-"]
    words += [f"{name}={told[name]}" for name in ("environment", "audience", "pool", "repository") if told[name]]
    line.append(plain(" ".join(words)))
    if told["codes"]:
        line.append(plain(f"  {' '.join(told['codes'])}"), "red")
    if told["observed"]:
        line.append(plain(f"  observed: {' '.join(told['observed'])}"), "yellow")
    if told["waived"]:
        line.append(plain(f"  waived: {' '.join(told['waived'])}"), "yellow")
    candidate = told["candidate"]
    if candidate and candidate["change"] != "same":
        change = CHANGES.get(candidate["change"], candidate["change"])
        line.append(plain(f"  candidate: {change} {' '.join(candidate['codes'])}"), "magenta")
    return line


def blame_lines(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Where a bundle came from, when it was in force, and what was decided under it."""
    from rich.text import Text

    yield Text(plain(report["digest"]), "bold")
    yield from _origin(report)
    for load in report["loads"]:
        yield Text(f"in force from {plain(load['at'])[:19]}Z by {plain(load['by'])}, read from {plain(load['folder'])}")
    for mark in report["changed_files"]:
        yield Text(f"  {plain(mark)}", {"+": "green", "-": "red"}.get(mark[:1], "yellow"))
    uses = report["uses"]
    if not uses["decisions"]:
        yield Text("nothing was decided under it in that time")
        return
    counts = ", ".join(f"{count} {verdict}" for verdict, count in uses["decisions"].items())
    yield Text(f"decisions {plain(uses['first'])[:19]}Z to {plain(uses['last'])[:19]}Z: {counts}", "bold")
    for name, found in uses["environments"].items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
        yield Text(f"  {plain(name) or '(no environment)'}: {counts}")
    yield from _jobs(uses)


def _origin(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    commit = report["commit"]
    if commit is None:
        yield Text(f"commit: {plain(report['commit_unknown'])}", "yellow")
        return
    yield Text(f"commit {plain(commit['id'])}")
    yield Text(f"  author    {plain(commit['author'])}, {plain(commit['authored_at'])}")
    yield Text(f"  committer {plain(commit['committer'])}, {plain(commit['committed_at'])}")
    for line in commit["message"].splitlines():
        yield Text(f"    {plain(line)}")
    for mark in commit["files"]:
        yield Text(f"  {plain(mark)}", {"+": "green", "-": "red"}.get(mark[:1], "yellow"))


def _jobs(uses: Mapping[str, Any]) -> Iterator[RenderableType]:
    from rich.text import Text

    released = [job for job in uses["jobs"] if job["released"]]
    others = len(uses["jobs"]) - len(released)
    if released:
        yield Text(f"{len(released)} jobs were let into an environment", "bold")
    for job in released[:_MOST_JOBS]:
        artifact = f" {plain(job['artifact_digest'])[:19]}…" if job["artifact_digest"] else ""
        yield Text(f"  {plain(job['first'])[:19]}Z {short_id(job['job_id'])} {plain(job['environment'])}{artifact}")
    if len(released) > _MOST_JOBS:
        yield Text(f"  … and {len(released) - _MOST_JOBS} more; --json has all of them")
    if others:
        yield Text(f"{others} jobs were not: builds, and what was refused")
