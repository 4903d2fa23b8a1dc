"""A folder of backups that were named by the time: the newest of them, and no more than are wanted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError, TryAgainError

_BY_TIME: Final = re.compile(r"orchestrator-[0-9]{8}T[0-9]{6}Z\.backup")


def name_by_time(now: datetime) -> str:
    """Names sort as their times do. `now` is in UTC."""
    return f"orchestrator-{now:%Y%m%dT%H%M%SZ}.backup"


def named_by_time(folder: Path) -> list[Path]:
    """The backups in the folder that have such a name, the oldest first. Nothing else there is looked at.

    Raises:
        ConfigurationError: reason `backup_unreadable`.
    """
    try:
        found = [path for path in folder.iterdir() if _BY_TIME.fullmatch(path.name)]
        return sorted(path for path in found if path.is_file() and not path.is_symlink())
    except OSError as error:
        raise ConfigurationError(
            f"the folder {folder} cannot be listed: {error.strerror or error}",
            reason="backup_unreadable",
            fix="name a folder of backups that this user may read",
        ) from error


def newest(folder: Path) -> Path:
    """
    Raises:
        ConfigurationError: reason `backup_unreadable`, also where there is none.
    """
    found = named_by_time(folder)
    if not found:
        raise ConfigurationError(
            f"the folder {folder} holds no backup whose name is a time, as `orchestrator backup FOLDER` gives it",
            reason="backup_unreadable",
            fix="name the file",
        )
    return found[-1]


def drop_older(folder: Path, keep: int, made: Path) -> tuple[Sequence[Path], Sequence[Path]]:
    """Remove what is older than the `keep` newest up to `made`. A name of later than that is of a clock that was wrong:
    it stays, and pushes nobody out. Returns those that are left and those that went, each the oldest first.

    Raises:
        ConfigurationError: reason `backup_unreadable`.
        TryAgainError: reason `backup_unwritable`: one cannot be removed.
    """
    found = named_by_time(folder)
    gone = [path for path in found if path.name <= made.name][:-keep]
    for path in gone:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise TryAgainError(
                f"the backup is made, but the old one {path} cannot be removed: {error.strerror or error}",
                reason="backup_unwritable",
                fix="check the folder's permissions, or remove it yourself: it holds private keys",
            ) from error
    return [path for path in found if path not in gone], gone
