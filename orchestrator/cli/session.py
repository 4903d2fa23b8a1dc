"""The options before the command, and what commands make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from orchestrator.cli.link.client import DaemonClient


def examples(lines: tuple[str, ...]) -> str:
    """The foot of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"`{line}`" for line in lines)


@dataclass(frozen=True, slots=True)
class Session:
    """What was given before the command's name."""

    url: str | None = None
    token_file: Path | None = None
    allow_http: bool = False

    def client(self) -> DaemonClient:
        """A client for the daemon meant; see `target.find_target` for the order of search and its errors."""
        from orchestrator.cli.link.client import DaemonClient
        from orchestrator.cli.link.target import find_target

        return DaemonClient(find_target(self.url, self.token_file, allow_http=self.allow_http))


def client_of(context: typer.Context) -> DaemonClient:
    """The client for a command's context."""
    session = context.find_object(Session) or Session()
    return session.client()
