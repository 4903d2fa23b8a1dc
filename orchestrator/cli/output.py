"""What a command prints: results on standard output, everything else on standard error.

`--json` puts one JSON document on standard output and nothing more. Colour follows the terminal and NO_COLOR.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render.words import plain
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH_OF_A_PIPE = 180


def console(*, stderr: bool = False) -> Console:
    """A console for renderables. Into a pipe it is wide, without colour, and cuts nothing that fits."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_A_PIPE
    return Console(file=stream, width=width, markup=False, emoji=False, highlight=False)


def narrow_width() -> int:
    """How many columns there are, where that is so few that tables have to leave something out; else 0."""
    from orchestrator.cli.render.pools import NARROW

    width = console().width
    return width if width < NARROW else 0


def show(*renderables: Any) -> None:
    out = console()
    for renderable in renderables:
        out.print(renderable)


def print_json(document: Any) -> None:
    """One document, indented, ASCII: safe in any terminal and for any encoding."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def say(text: str) -> None:
    """A result line on standard output."""
    sys.stdout.write(plain(text) + "\n")


def note(text: str) -> None:
    """What is going on, for people, on standard error."""
    sys.stderr.write(plain(text) + "\n")
    sys.stderr.flush()


def complain(error: OrchestratorError) -> None:
    """An error and its way out on standard error."""
    lines = [f"error: {error}"] + ([f"  fix: {error.fix}"] if error.fix else [])
    sys.stderr.write("\n".join(plain(line, keep_lines=True) for line in lines) + "\n")
    sys.stderr.flush()


def unicode_output() -> bool:
    """Whether standard output can show block characters."""
    return (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
