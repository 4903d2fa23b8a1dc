"""Pools: as lines of a table, one in full, and what they lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import duration, plain

Document = Mapping[str, Any]

NARROW = 80
"""Columns below which what never changes makes room for what does."""
_NARROWEST, _WIDE = 56, 120


def pool_table(pools: Sequence[Document], width: int = 0) -> Table:
    """A row for each pool. `oldest_wait_seconds` is shown where it is known.

    For a screen of so many columns each row is one line, with names cut; a narrow one leaves out what never changes.
    """
    brief = 0 < width < NARROW
    ages = not 0 < width < _NARROWEST and any(pool.get("oldest_wait_seconds") is not None for pool in pools)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    if width:
        table.add_column(
            "POOL", overflow="ellipsis", no_wrap=True, max_width=12 if brief else 24 if width < _WIDE else None
        )
    else:
        table.add_column("POOL", overflow="fold")
    if not brief:
        table.add_column("BACKEND", no_wrap=True)
        table.add_column("TIER", no_wrap=True)
    table.add_column("IN USE", no_wrap=True, justify="right")
    table.add_column("WAITING", no_wrap=True, justify="right")
    if ages:
        table.add_column("OLDEST", no_wrap=True, justify="right")
    table.add_column("GUARDS", no_wrap=True)
    for pool in pools:
        missing = len(pool["guards_missing"])
        full = pool["in_use"] >= pool["capacity"]
        fixed = () if brief else (pool["backend"], pool["trust_tier"])
        cells = [
            *(Text(plain(text)) for text in (pool["name"], *fixed)),
            Text(f"{pool['in_use']} of {pool['capacity']}", "yellow" if full else ""),
            Text(str(pool["waiting"]), "yellow" if pool["waiting"] else ""),
        ]
        if ages:
            oldest = pool.get("oldest_wait_seconds")
            cells.append(Text(duration(oldest) if oldest else "-"))
        cells.append(Text(f"{missing} missing", "bold red") if missing else Text("whole", "green"))
        table.add_row(*cells)
    return table


def pool_guards(pools: Sequence[Document]) -> list[Text]:
    """A line for each guard that is missing."""
    return [
        Text.assemble((f"{plain(pool['name'])}: ", "bold"), (plain(guard), "bold red"))
        for pool in pools
        for guard in pool["guards_missing"]
    ]


def pool_detail(pool: Document) -> Table:
    """What runners of the pool are made of, and the most that they may do."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("made of", pool["base"]),
        ("isolation", pool["isolation"]),
        ("longest job", duration(pool["max_job_seconds"])),
        ("egress proof", "demanded" if pool["require_egress_proof"] else "not demanded"),
        ("egress", ", ".join(pool["egress"]) or "nothing"),
    ):
        table.add_row(f"  {name}", Text(plain(value)))
    return table
