"""What is in the way of a restore: moved aside, and back when the restore fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from orchestrator.daemon.backup.places import AUDIT, LOST, RESTORING, STATE, places
from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.audit.segments import VKEY
from orchestrator.journal.ownership import Ownership
from orchestrator.settings import Settings

_ASIDE: Final = ".before-"


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
            there = folder.with_name(f"{folder.name}{_ASIDE}{stamp}")
            _move(folder, there)
            moved[place] = there
        yield moved
    except BaseException:
        _move_back({there: folders[place] for place, there in moved.items()})
        raise
    finally:
        if owner is not None:
            owner.release()


def audit_of(settings: Settings, moved: Mapping[str, Path]) -> Path | None:
    """The audit log among what was moved aside; None where there is none. Where that is what a restore left which was
    cut short, the log is in what was moved aside before."""
    folders = places(settings)
    place = AUDIT if AUDIT in folders else STATE
    there = moved.get(place)
    if any((one / RESTORING).exists() for one in moved.values()):
        there = _newest_aside(folders[place])
    if there is None:
        return None
    folder = there if place == AUDIT else there / "audit"
    return folder if (folder / VKEY).is_file() else None


def _newest_aside(folder: Path) -> Path | None:
    """That holds no restore that was cut short."""
    try:
        found = sorted(one for one in folder.parent.iterdir() if one.name.startswith(f"{folder.name}{_ASIDE}"))
    except OSError as error:
        raise _immovable(folder, error) from error
    return next((one for one in reversed(found) if not (one / RESTORING).exists()), None)


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


def _move_back(moved: Mapping[Path, Path]) -> None:
    """All that can be. What a failed restore leaves is an empty folder."""
    stuck = {}
    for there, folder in moved.items():
        try:
            with suppress(FileNotFoundError):
                folder.rmdir()
            there.rename(folder)
        except OSError as error:
            stuck[there] = f"{there} could not be moved back to {folder}: {error.strerror or error}"
    if stuck:
        raise TryAgainError(
            f"the restore failed, and {'; '.join(stuck.values())}",
            reason="restore_unwritable",
            fix=f"move it back yourself: what the daemon had is in {', '.join(map(str, stuck))}",
        )


def _immovable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{folder} cannot be moved aside: {error.strerror or error}",
        reason="restore_not_empty",
        fix="move what is in it away yourself; the root of a file system stays where it is",
    )
