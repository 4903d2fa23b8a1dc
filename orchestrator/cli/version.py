"""`orchestrator version`."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = ("orchestrator version --json",)


def shown(wanted: bool) -> None:
    """`--version`, as people try first."""
    if wanted:
        version()
        raise typer.Exit


def version(
    json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, with the interpreter and the platform.")
    ] = False,
) -> None:
    """Print the program's version."""
    import platform

    from orchestrator import __version__
    from orchestrator.cli.output import print_json, say

    if json:
        print_json({"version": __version__, "python": platform.python_version(), "platform": platform.platform()})
    else:
        say(f"orchestrator {__version__}")
