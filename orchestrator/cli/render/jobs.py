"""Jobs: as lines of a table, as a headline, in every detail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.verdicts import artifacts, decisions, egress_verdicts, heading, tokens
from orchestrator.cli.render.words import age, between, plain, short_id, size

Document = Mapping[str, Any]

_COLOURS = {
    "success": "green",
    "failure": "red",
    "error": "bold red",
    "timeout": "bold red",
    "denied": "magenta",
    "cancellation": "yellow",
    "running": "cyan",
    "waiting": "yellow",
}


def state_text(job: Document) -> Text:
    """Phase while a job lives, result once it has one."""
    word = plain(job.get("result") or job.get("phase"))
    return Text(word, style=_COLOURS.get(word, ""))


def _reason(job: Document) -> str:
    """Why it ended or what it waits for, in one word; nothing for a job that does what its phase says."""
    word = job.get("reason") or (job.get("why") or {}).get("reason")
    return "" if word == job.get("phase") else plain(word)


_OF_REASONS = 60
"""Columns from which on reasons have room beside names."""


def job_table(jobs: Sequence[Document], now: datetime, width: int = 0) -> Table:
    """One line for each job summary. `now` is what ages are counted from. A narrow screen of `width` columns shows
    which job it is and how it stands; 0 is wide."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2 if not width else 1, 0, 0))
    if width:
        return _narrow(table, jobs, now, width)
    pipelines = any(job.get("pipeline") for job in jobs)
    table.add_column("ID", no_wrap=True)
    table.add_column("NAME", overflow="fold")
    table.add_column("POOL", no_wrap=True)
    if pipelines:
        table.add_column("PIPELINE", overflow="fold")
    table.add_column("STATE", no_wrap=True)
    table.add_column("REASON", no_wrap=True)
    table.add_column("AGE", no_wrap=True, justify="right")
    table.add_column("TOOK", no_wrap=True, justify="right")
    for job in jobs:
        cells: list[RenderableType] = [short_id(job["id"]), Text(plain(job["name"])), plain(job["pool"])]
        if pipelines:
            cells.append(Text(plain(job.get("pipeline"))))
        took = between(job["offered_at"], job.get("finished_at"))
        cells += [state_text(job), _reason(job), age(job["offered_at"], now), took]
        table.add_row(*cells)
    return table


def _narrow(table: Table, jobs: Sequence[Document], now: datetime, width: int) -> Table:
    reasons = width >= _OF_REASONS
    names = ["ID", "NAME", "STATE", *(["REASON"] if reasons else []), "AGE"]
    rows = [
        [
            Text(short_id(job["id"])),
            Text(plain(job["name"])),
            state_text(job),
            *([Text(_reason(job))] if reasons else []),
            Text(age(job["offered_at"], now), justify="right"),
        ]
        for job in jobs
    ]
    most = {name: max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(names)}
    # Only names are cut: half an id is none, and half a state may be that of another one.
    room = width - len(names) - sum(most.values()) + most["NAME"]
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=max(room, 4) if name == "NAME" else None)
    for row in rows:
        table.add_row(*row)
    return table


def job_headline(job: Document) -> Text:
    """Name, id and how it stands, in one line."""
    text = Text.assemble((plain(job["name"]), "bold"), "  ", (plain(job["id"]), "dim"), "  ", state_text(job))
    if job.get("reason"):
        text.append(f" ({plain(job['reason'])})")
    took = between(job["offered_at"], job.get("finished_at") or job.get("ended_at"))
    return text.append(f"  {took}", "dim") if took else text


def job_detail(job: Document) -> Group:
    """A job view in full: what it is, how it stands, and what was decided, issued, reached, built and left."""
    parts: list[RenderableType] = [job_headline(job), _facts(job)]
    for section in (decisions(job), tokens(job), egress_verdicts(job), artifacts(job)):
        if section is not None:
            parts += [Text(), section]
    parts += _alarms(job)
    return Group(*parts)


def _facts(job: Document) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(job):
        if value:
            table.add_row(f"  {name}", Text(value))
    return table


def _lines(job: Document) -> list[tuple[str, str]]:
    caller, runner, cancel, log = (job.get(name) or {} for name in ("caller", "runner", "cancel", "log"))
    wait, platform, exit_code = job.get("wait") or {}, job.get("platform_job") or {}, job.get("exit_code")
    facts = ", ".join(f"{plain(key)}={plain(value)}" for key, value in sorted((caller.get("facts") or {}).items()))
    return [
        ("phase", plain(job.get("phase"))),
        ("waiting for", _pair(wait.get("reason"), wait.get("detail"))),
        ("platform's job", _pair(platform.get("state"), platform.get("key"))),
        ("platform says", _pair(platform.get("result"), platform.get("told_by"))),
        ("message", plain(job.get("message"))),
        ("exit code", "" if exit_code is None else str(exit_code)),
        ("cancelled by", _pair(cancel.get("by"), cancel.get("reason"))),
        ("pool", plain(job.get("pool"))),
        ("pipeline", plain(job.get("pipeline"))),
        ("deploys to", plain(job.get("deployment_environment"))),
        ("artifact", plain(job.get("artifact_digest"))),
        ("ticket", plain(job.get("ticket"))),
        ("secrets", plain(", ".join(job.get("secrets") or []))),
        ("caller", _pair(caller.get("subject"), caller.get("issuer"))),
        ("caller facts", facts),
        ("runner", _pair(runner.get("name"), runner.get("uid"))),
        ("offered", plain(job.get("offered_at"))),
        ("bound", plain(job.get("bound_at"))),
        ("ended", plain(job.get("ended_at"))),
        ("finished", plain(job.get("finished_at"))),
        ("log", _log(log) if log else ""),
        ("trace", plain(job.get("trace_id"))),
        ("summary", plain(job["summaries"][-1]["digest"] if job.get("summaries") else "")),
        ("receipt", plain(job.get("receipt_digest"))),
    ]


def _pair(first: object, second: object) -> str:
    if not first:
        return ""
    return f"{plain(first)} ({plain(second)})" if second else plain(first)


def _log(log: Document) -> str:
    text = f"{size(log['bytes_kept'])} kept"
    if log.get("bytes_dropped"):
        text += f", {size(log['bytes_dropped'])} dropped"
    if log.get("secrets_masked"):
        text += f", {log['secrets_masked']} secrets masked"
    return text


def _alarms(job: Document) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if job.get("alarms"):
        parts += [Text(), heading("Alarms")]
        parts += [Text(f"  {plain(a['alarm'])}: {plain(a['detail'])}", "bold red") for a in job["alarms"]]
    if job.get("leftovers"):
        parts += [Text(), heading("Left behind"), *(Text(f"  {plain(item)}", "bold red") for item in job["leftovers"])]
    return parts
