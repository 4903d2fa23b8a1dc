"""What is in the way of a restore: moved aside, and back when the restore fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.daemon.backup.places import AUDIT, LOST, STATE, places
from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.audit.segments import VKEY
from orchestrator.journal.ownership import Ownership
from orchestrator.settings import Settings


@contextmanager
def moved_aside(settings: Settings) -> Iterator[Mapping[str, Path]]:
    """Rename each folder of state that holds something to `<folder>.before-<time>`; gives the new ones by their place.

    They are renamed back when the body raises. The journal stays locked, so that no daemon works on them meanwhile.

    Raises:
        ConfigurationError: reasons `journal_in_use` (a daemon is), `restore_not_empty` (it cannot be renamed).
        TryAgainError: reason `restore_unwritable`: it cannot be renamed back; the message says which.
    """
    folders = {place: folder for place, folder in places(settings).items() if _holds_something(folder)}
    owner = Ownership.take(folders[STATE] / "journal.db") if STATE in folders else None
    moved: dict[str, Path] = {}
    try:
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        for place, folder in folders.items():
            there = folder.with_name(f"{folder.name}.before-{stamp}")
            _move(folder, there)
            moved[place] = there
        yield moved
    except BaseException:
        for place, there in moved.items():
            _move_back(there, folders[place])
        raise
    finally:
        if owner is not None:
            owner.release()


def audit_of(moved: Mapping[str, Path]) -> Path | None:
    """The audit log among what was moved aside; None where there is none."""
    folder = moved[AUDIT] if AUDIT in moved else moved[STATE] / "audit" if STATE in moved else None
    return folder if folder is not None and (folder / VKEY).is_file() else None


def _holds_something(folder: Path) -> bool:
    try:
        return any(path.name != LOST for path in folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _immovable(folder, error) from error


def _move(folder: Path, there: Path) -> None:
    try:
        folder.rename(there)
    except OSError as error:
        raise _immovable(folder, error) from error


def _move_back(there: Path, folder: Path) -> None:
    """What a failed restore leaves is an empty folder."""
    try:
        with suppress(FileNotFoundError):
            folder.rmdir()
        there.rename(folder)
    except OSError as error:
        raise TryAgainError(
            f"the restore failed, and {there} could not be moved back to {folder}: {error.strerror or error}",
            reason="restore_unwritable",
            fix=f"move it back yourself: {there} is what the daemon had",
        ) from error


def _immovable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} cannot be moved aside: {error.strerror or error}",
        reason="restore_not_empty",
        fix="move what is in it away yourself; the root of a file system stays where it is",
    )
