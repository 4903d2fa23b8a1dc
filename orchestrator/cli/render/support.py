"""What is in a support bundle, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import plain, size


class Listed(Protocol):
    """One document of the bundle, or why it is not there."""

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def cut(self) -> bool: ...
    @property
    def missing(self) -> str: ...


def bundle_table(entries: Sequence[Listed]) -> Table:
    """One line for each document."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("DOCUMENT", overflow="fold")
    table.add_column("SIZE", no_wrap=True, justify="right")
    table.add_column("WHAT", overflow="fold")
    for entry in entries:
        if entry.missing:
            table.add_row(Text(plain(entry.name)), "-", Text(f"not in it: {plain(entry.missing)}", "yellow"))
        else:
            cut = " (cut)" if entry.cut else ""
            table.add_row(Text(plain(entry.name)), size(entry.bytes), Text(f"{plain(entry.what)}{cut}"))
    return table
