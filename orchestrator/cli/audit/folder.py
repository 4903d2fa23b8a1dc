"""Which log a command of `orchestrator audit` is about, and which key it trusts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.evidence.audit.checkpoint import Checkpoint
    from orchestrator.evidence.audit.note import NoteVerifier

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="FOLDER", help="The log's folder, or a copy. Default: the daemon's, by its settings or state folder."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="The log's public key (`NAME+ID+BASE64`), or a file with it. Default: the one in the folder.",
    ),
]

_MAX_KEY_BYTES = 4096


def log_folder(given: Path | None) -> Path:
    """The folder meant.

    Raises:
        UsageError: it is none.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.link.target import state_dir

    folder = given or _set_in(os.environ.get("ORCHESTRATOR_CONFIG")) or state_dir() / "audit"
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", fix="name the folder of the audit log, or a copy of it")
    return folder


def _set_in(config: str | None) -> Path | None:
    """`audit.folder` of the settings file, if one is named and has it."""
    if not config:
        return None
    from orchestrator.settings import load_settings

    return load_settings(Path(config)).audit.folder


def public_key(given: str | None, folder: Path | None) -> NoteVerifier:
    """The key to trust: the one given, as text or in a file, else the one in `folder`.

    Raises:
        UsageError: there is none, or it is none.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.audit.note import NoteRefusedError, NoteVerifier
    from orchestrator.evidence.audit.segments import VKEY

    fix = "give it with --key; on the daemon's machine, orchestrator audit key prints it"
    path = folder / VKEY if given is None and folder is not None else Path(given or "")
    text = given or ""
    try:
        if given is None or (path.exists() and path.is_file()):
            with path.open(encoding="utf-8") as file:
                text = file.read(_MAX_KEY_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the log's public key cannot be read from {path}: {_why(error)}", fix=fix) from None
    try:
        return NoteVerifier.parse(text)
    except NoteRefusedError as error:
        raise UsageError(str(error), fix=fix) from None


def files_in(given: Sequence[Path]) -> list[Path]:
    """The files that are meant: those given, and all in the folders given."""
    return [
        path
        for one in given
        for path in (sorted(path for path in one.rglob("*") if path.is_file()) if one.is_dir() else [one])
    ]


def checkpoint_in(path: Path, verifier: NoteVerifier) -> Checkpoint:
    """The last checkpoint of a file.

    Raises:
        UsageError: it cannot be read, or the last one cannot be trusted.
    """
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.audit.checkpoint import read_checkpoint
    from orchestrator.evidence.audit.note import NoteRefusedError, split_notes
    from orchestrator.evidence.audit.verify import MAX_CHECKPOINT_BYTES

    try:
        with path.open("rb") as file:
            notes = split_notes(file.read(MAX_CHECKPOINT_BYTES))
        return read_checkpoint(notes[-1] if notes else "", verifier)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {_why(error)}", fix="name a file with a checkpoint") from None
    except NoteRefusedError as error:
        raise UsageError(f"{path} holds no checkpoint of this log: {error}", fix=error.fix) from None


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
