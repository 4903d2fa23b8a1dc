"""`orchestrator reference`: the generated pages of the documentation (hidden; `make docs` calls it)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Write reference pages made from the program.")

Output = Annotated[Path | None, typer.Option("--output", help="File to write. Default: standard output.")]


@app.command("settings")
def settings_reference(output: Output = None) -> None:
    """The settings tree as Markdown."""
    from orchestrator.cli.pages.settings_page import settings_page

    _write(settings_page(), output)


@app.command("cli")
def cli_reference(context: typer.Context, output: Output = None) -> None:
    """The command line as Markdown."""
    from orchestrator.cli.pages.commands_page import commands_page

    _write(commands_page(context.find_root().command), output)


@app.command("api")
def api_reference(output: Output = None) -> None:
    """The operations and shapes of the public API as Markdown."""
    from orchestrator.cli.pages.api_page import api_page

    _write(api_page(), output)


@app.command("lifecycle")
def lifecycle_reference(output: Output = None) -> None:
    """The phases of a job as a drawing (SVG)."""
    from orchestrator.cli.pages.lifecycle_drawing import lifecycle_drawing

    _write(lifecycle_drawing(), output)


def _write(page: str, output: Path | None) -> None:
    if output is None:
        typer.echo(page, nl=False)
        return
    output.write_text(page, encoding="utf-8")
