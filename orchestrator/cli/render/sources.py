"""Sources: as lines of a table, with what fails of them, and what they ask of their platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.verdicts import heading
from orchestrator.cli.render.words import age, duration, moment, plain

Document = Mapping[str, Any]

_COLOURS = {"listening": "green", "waiting": "yellow", "conflict": "bold red", "stopped": "dim"}
_SLOTS = ("coming", "starting", "free", "busy", "over")


def source_table(sources: Sequence[Document], now: datetime) -> Table:
    """One line for each set of runners."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("SOURCE", "SET", "POOL", "STAGE"):
        table.add_column(name, no_wrap=name != "SET", overflow="fold")
    for name in ("ASSIGNED", "RUNNING", "MAY HOLD"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("RUNNERS", overflow="fold")
    table.add_column("HEARD", no_wrap=True, justify="right")
    table.add_column("WAITING FOR", overflow="fold")
    for source in sources:
        for one in source["sets"]:
            table.add_row(*_cells(source, one, now))
    return table


def _cells(source: Document, one: Document, now: datetime) -> list[RenderableType]:
    jobs = one["jobs"]
    stage = plain(one["stage"])
    assigned, running = ("-", "-") if jobs is None else (str(jobs["assigned"]), str(jobs["running"]))
    return [
        Text(plain(source["name"])),
        Text(plain(one["name"])),
        Text(plain(one["pool"])),
        Text(stage, style=_COLOURS.get(stage, "")),
        assigned,
        running,
        "-" if one["announced"] is None else str(one["announced"]),
        Text(_runners(one)),
        age(one["heard_at"], now),
        Text(plain(one["waiting_for"]), style="yellow"),
    ]


def _runners(one: Document) -> str:
    """Those that there are, by state, and those that are not begun."""
    slots = one["slots"]
    known = [*_SLOTS, *sorted(slots.keys() - set(_SLOTS))]
    parts = [f"{slots[state]} {plain(state)}" for state in known if slots.get(state)]
    for name, word in (("short", "short"), ("withheld", "withheld"), ("queued", "jobs queued")):
        if one[name]:
            parts.append(f"{one[name]} {word}")
    return ", ".join(parts) or "none"


def failing(sources: Sequence[Document]) -> list[tuple[str, Document]]:
    """What does not work: where, and the failure."""
    found = [(f"source {source['name']}", source["failure"]) for source in sources]
    found += [
        (f"set {one['name']} of {source['name']}", one["failure"]) for source in sources for one in source["sets"]
    ]
    return [(plain(where), failure) for where, failure in found if failure]


def source_failures(sources: Sequence[Document], now: datetime) -> list[RenderableType]:
    """Each failure with its way out; labels that a platform did not take over."""
    parts: list[RenderableType] = []
    for where, failure in failing(sources):
        since = age(failure["since"], now)
        text = Text(f"{where}: {plain(failure['message'])} [{plain(failure['reason'])}], for {since}", "red")
        parts += [Text(), text] + ([Text(f"  fix: {plain(failure['fix'])}")] if failure["fix"] else [])
    for source in sources:
        for one in source["sets"]:
            if one["labels_lacking"]:
                lacking = ", ".join(map(plain, one["labels_lacking"]))
                where = f"set {plain(one['name'])} of {plain(source['name'])}"
                parts += [Text(), Text(f"{where}: the platform did not take over the labels {lacking}", "yellow")]
    return parts


def source_lines(sources: Sequence[Document], now: datetime) -> list[RenderableType]:
    """One line for each source: where it is, what it asks, and what is left of its limits."""
    return [Text(), *(Text(_line(source, now), "dim", overflow="fold") for source in sources)]


def _line(source: Document, now: datetime) -> str:
    calls = sum(count["calls"] for count in source["calls"].values())
    parts = [f"{plain(source['name'])}: {plain(source['url'])} by {plain(source['kind']).replace('_', ' ')}"]
    parts.append(f"{calls} calls" + (f", {source['calls_per_job']:g} per job" if source["calls_per_job"] else ""))
    if source["deliveries_waiting"]:
        parts.append(f"{source['deliveries_waiting']} deliveries wait")
    for resource, limit in source["rate_limits"].items():
        resets = moment(limit["resets_at"])
        again = f", all again in {duration((resets - now).total_seconds())}" if resets and resets > now else ""
        parts.append(f"{limit['remaining']} of {limit['limit']} {plain(resource)} calls left{again}")
    return "; ".join(parts)


def source_calls(source: Document) -> list[RenderableType]:
    """A source's requests by endpoint, and what it has done and met."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("CALL", overflow="fold")
    for name in ("SENT", "REPEATED", "MEAN"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("ANSWERS", overflow="fold")
    for endpoint, count in source["calls"].items():
        mean = duration(count["seconds"] / count["calls"]) if count["calls"] else ""
        answers = ", ".join(f"{number} {plain(status)}" for status, number in count["by_status"].items())
        table.add_row(Text(plain(endpoint)), str(count["calls"]), str(count["retries"]), mean, Text(answers))
    done = ", ".join(f"{number} {plain(event)}" for event, number in source["events"].items() if number)
    parts: list[RenderableType] = [Text(), table] if source["calls"] else []
    return [*parts, Text(), heading("Done and met"), Text(f"  {done or 'nothing yet'}", overflow="fold")]
