"""Everything at one look: how the daemon does, its pools, and each job with what it waits for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.jobs import state_text
from orchestrator.cli.render.pools import NARROW, pool_table
from orchestrator.cli.render.sources import failing
from orchestrator.cli.render.words import age, plain, short_id

Document = Mapping[str, Any]

_ORDER = ("running", "teardown", "binding", "provisioning", "waiting", "queued", "finished")
_MAX_ALARMS = 3
_MAX_BROKEN = 5


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one moment: `GET /v1/overview` and the rows of `GET /v1/live/jobs`."""

    overview: Document
    jobs: Sequence[Document]


def top_screen(look: Look, now: datetime, width: int = 0, height: int = 0, trouble: str = "") -> Group:
    """One screen of `width` columns and `height` lines; 0 is without a limit. `trouble` is why what is shown is not of
    now."""
    overview, narrow = look.overview, 0 < width < NARROW
    head = [_headline(overview), _counts(overview, narrow=narrow), *_broken(overview)]
    if trouble:
        head.insert(0, Text(f"NOT LIVE since {age(overview['at'], now)}: {plain(trouble)}", "bold red"))
    head += [_alarm(alarm, now) for alarm in overview["alarms"][:_MAX_ALARMS]]
    jobs, pools = _sorted(look.jobs), list(overview["pools"])
    if height:
        # Two empty lines, two headers, and the lines that say how much is not shown.
        room = max(height - len(head) - 6, 2)
        pools = _telling(pools)[: max(room - len(jobs), room // 2)]
        jobs = jobs[: room - len(pools)]
    parts: list[RenderableType] = [*head, Text(), pool_table(pools, width)]
    if len(pools) < len(overview["pools"]):
        parts.append(Text(f"… and {len(overview['pools']) - len(pools)} more pools", "dim"))
    parts += [Text(), _jobs(jobs, now, narrow=narrow)]
    hidden = sum(overview["counts"].values()) - sum(1 for job in jobs if job["phase"] != "finished")
    if hidden > 0:
        parts.append(Text(f"… and {hidden} more that are not finished", "dim"))
    for line in parts:
        if isinstance(line, Text):
            line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*parts)


def _telling(pools: Sequence[Document]) -> list[Document]:
    """Those that lack a guard first, then those that jobs wait for, then the full ones."""
    return sorted(
        pools, key=lambda one: (not one["guards_missing"], not one["waiting"], one["in_use"] < one["capacity"])
    )


def _headline(overview: Document) -> Text:
    at = plain(overview["at"])[:19]
    text = Text.assemble(("orchestrator ", "bold"), plain(overview["version"]), "  ", (f"{at}Z", "dim"))
    if overview["draining"]:
        text.append("  DRAINING: no new job begins", "bold yellow")
    return text


def _counts(overview: Document, *, narrow: bool) -> Text:
    """Unfinished jobs by phase, and how those of the last hour ended."""
    text = Text()
    for phase, count in overview["counts"].items():
        if narrow and not count:
            continue
        text.append(f"{plain(phase)} ").append(f"{count}   ", "bold" if count else "dim")
    ends = ", ".join(f"{count} {plain(result)}" for result, count in overview["finished_last_hour"].items() if count)
    text.append(f"last hour: {ends or 'nothing ended'}", "dim")
    if overview["approvals_waiting"]:
        text.append(f"   approvals waiting: {overview['approvals_waiting']}", "yellow")
    return text


def _broken(overview: Document) -> list[Text]:
    lines = [
        Text(f"check {plain(name)}: {plain(word)}", "bold red")
        for name, word in overview["checks"].items()
        if word not in ("ok", "draining")
    ]
    lines += [Text(f"{where}: {plain(one['message'])}", "bold red") for where, one in failing(overview["sources"])]
    more = len(lines) - _MAX_BROKEN
    return [*lines[:_MAX_BROKEN], *([Text(f"… and {more} more that do not work", "bold red")] if more > 0 else [])]


def _alarm(alarm: Document, now: datetime) -> Text:
    where = f"{short_id(alarm['job_id'])}, {age(alarm['at'], now)} ago"
    return Text(f"alarm {plain(alarm['alarm'])} ({where}): {plain(alarm['detail'])}", "red")


def _sorted(jobs: Sequence[Document]) -> list[Document]:
    """What has a runner first, then what waits, the longest first; what is finished last, the newest first."""
    rank = {phase: number for number, phase in enumerate(_ORDER)}
    unfinished = sorted(
        (job for job in jobs if job["phase"] != "finished"),
        key=lambda job: (rank.get(job["phase"], len(_ORDER)), job["offered_at"]),
    )
    over = (job for job in jobs if job["phase"] == "finished")
    return [*unfinished, *sorted(over, key=lambda job: job["finished_at"] or "", reverse=True)]


def _jobs(jobs: Sequence[Document], now: datetime, *, narrow: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("FOR", no_wrap=True, justify="right")
    if not narrow:
        table.add_column("ID", no_wrap=True)
    table.add_column("NAME", no_wrap=True, overflow="ellipsis", max_width=12 if narrow else 24)
    if not narrow:
        table.add_column("POOL", no_wrap=True, overflow="ellipsis", max_width=16)
    table.add_column("WHY", no_wrap=True, overflow="ellipsis", ratio=1)
    for job in jobs:
        name, why = Text(plain(job["name"])), Text(plain(job["why"]) or plain(job["reason"]))
        named = [name] if narrow else [Text(short_id(job["id"])), name, Text(plain(job["pool"]))]
        table.add_row(state_text(job), age(job["since"], now), *named, why)
    return table
