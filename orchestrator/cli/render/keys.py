"""Signing keys as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import age, plain

_COLOURS = {"active": "green", "revoked": "red", "retiring": "dim"}


def rotated_line(issuer: Mapping[str, Any]) -> str:
    """What a rotation came to for one issuer."""
    url, signs_at = plain(issuer["url"]), issuer["signs_at"]
    state = "active" if signs_at is None else "next"
    keys = [f"{plain(key['kid'])} ({plain(key['algorithm'])})" for key in issuer["keys"] if key["state"] == state]
    if signs_at is None:
        return f"{url}: signs with {', '.join(keys)}"
    when = "will sign" if issuer["changed"] else "was asked for before, and will sign"
    return f"{url}: {', '.join(keys)} {when} from {plain(signs_at)} on"


def key_table(issuers: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """One line for each key of each issuer. Ids are whole, to be copied."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("ISSUER", overflow="fold")
    for name in ("KEY", "ALGORITHM", "STATE"):
        table.add_column(name, no_wrap=True)
    table.add_column("SINCE", no_wrap=True, justify="right")
    for issuer in issuers:
        for key in issuer["keys"]:
            state = plain(key["state"])
            table.add_row(
                Text(plain(issuer["url"])),
                Text(plain(key["kid"])),
                Text(plain(key["algorithm"])),
                Text(state, style=_COLOURS.get(state, "")),
                age(key["since"], now),
            )
    return table
