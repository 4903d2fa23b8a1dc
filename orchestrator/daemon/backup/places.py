"""What is backed up: the folders that hold state, and in which order their files are copied."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

STATE: Final = "state"
AUDIT: Final = "audit"
DECISIONS: Final = "decisions"

RESTORING: Final = ".restoring"
"""In a state folder: a restore is under way, or was cut short."""

LOST: Final = "lost+found"
"""What a volume may hold that is empty otherwise."""

_OF_THIS_DAEMON: Final = frozenset({"daemon.json", "caller-token", "page-sessions.json"})
"""Made at each start, or ended by hand since: what was signed out must not be back after a restore."""
_BESIDE_A_DATABASE: Final = (".db-wal", ".db-shm", ".db-journal")
_SCRATCH: Final = (".lock", ".tmp", ".sock")
_JOURNAL: Final = "journal.db"
_AUDIT_NOTES: Final = frozenset({"checkpoint", "checkpoints"})


@dataclass(frozen=True, slots=True)
class Source:
    """One file: where it is, and its name in a backup, which begins with its place."""

    path: Path
    name: str


def places(settings: Settings) -> Mapping[str, Path]:
    """The folders by their names in a backup: the state folder, and those that the settings have put elsewhere."""
    found = {STATE: settings.state_dir}
    if settings.audit.enabled and settings.audit.folder is not None:
        found[AUDIT] = settings.audit.folder
    if settings.policy.decisions.folder is not None:
        found[DECISIONS] = settings.policy.decisions.folder
    inside = settings.state_dir.absolute()
    return {name: path for name, path in found.items() if name == STATE or not path.absolute().is_relative_to(inside)}


def sources(folders: Mapping[str, Path], *, logs: bool) -> list[Source]:
    """Every file to copy, in order. The journal comes first: whatever else belongs to its facts is then in a later
    copy, and each room is built to know more than the journal. Of the audit log the checkpoints come before the
    records, which may be more than they vouch for, and never less.

    Raises:
        ConfigurationError: reason `state_dir_unusable`: a folder cannot be listed, or something is a link, so that the
            backup would not be whole.
    """
    found = [source for name, folder in folders.items() for source in _files(name, folder)]
    kept = [one for one in found if logs or not one.name.startswith(f"{STATE}/logs/")]
    return sorted(kept, key=lambda one: (_rank(one), one.name))


def _files(place: str, folder: Path) -> Iterator[Source]:
    for parent, names, files in os.walk(folder, onerror=_unless_gone):
        at = Path(parent)
        names[:] = sorted(name for name in names if name not in (RESTORING, LOST))
        wanted = [name for name in files if _wanted(at == folder, name)]
        _refuse_links(at / name for name in (*names, *wanted))
        for path in (at / name for name in wanted):
            if path.is_file():
                yield Source(path, f"{place}/{path.relative_to(folder)}")


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise ConfigurationError(
            f"{error.filename} cannot be listed: {error.strerror}",
            reason="state_dir_unusable",
            fix="make the backup as the daemon's user; that folder must be one",
        ) from error


def _refuse_links(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_symlink():
            raise ConfigurationError(
                f"{path} is a link, and what it leads to would not be in the backup",
                reason="state_dir_unusable",
                fix="put the file or folder itself there, by a mount for example",
            )


def belongs_to_a_database(name: str) -> bool:
    """Whether SQLite takes the file for a part of the database beside it. A backup holds none: its copies are whole."""
    return name.endswith(_BESIDE_A_DATABASE)


def _wanted(top: bool, name: str) -> bool:
    if name == "lock" or name.endswith(_SCRATCH) or belongs_to_a_database(name):
        return False
    return not (top and name in _OF_THIS_DAEMON)


def _rank(source: Source) -> int:
    if source.name == f"{STATE}/{_JOURNAL}":
        return 0
    return 1 if source.path.name in _AUDIT_NOTES else 2
