"""Endpoints of notifications as a table, and what does not work as lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import age, plain

_STYLES = {"active": "green", "failing": "yellow", "disabled": "red"}


def endpoint_table(endpoints: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """One line for each endpoint."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("ENDPOINT", "HOST", "FORMAT", "STATE"):
        table.add_column(name, overflow="fold")
    for name in ("WAITING", "OLDEST", "TAKEN", "LAST", "DROPPED"):
        table.add_column(name, no_wrap=True, justify="right")
    for one in endpoints:
        table.add_row(
            Text(plain(one["name"])),
            Text(plain(one["host"])),
            plain(one["format"]),
            Text(plain(one["state"]), style=_STYLES.get(one["state"], "")),
            str(one["waiting"]),
            age(one["oldest_at"], now),
            str(one["delivered"]),
            age(one["delivered_at"], now),
            Text(str(one["dropped"]), style="red" if one["dropped"] else ""),
        )
    return table


def endpoint_failures(endpoints: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Text]:
    """For each endpoint that does not work: what, since when, and what to do."""
    for one in endpoints:
        failure = one["failure"]
        if one["state"] == "disabled":
            yield Text(
                f"{plain(one['name'])}: it answered 410 {age(one['disabled_at'], now)} ago; nothing is sent", "red"
            )
            yield Text(f"  fix: `orchestrator notifications retry {plain(one['name'])}` sends to it again")
        elif failure:
            since = age(failure["since"], now)
            yield Text(
                f"{plain(one['name'])}: {plain(failure['message'])} [{plain(failure['reason'])}], for {since}", "yellow"
            )
            if failure["fix"]:
                yield Text(f"  fix: {plain(failure['fix'])}")
