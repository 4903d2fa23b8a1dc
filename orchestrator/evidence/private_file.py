"""Files with a private key: of this user alone, never followed through a link, made once, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError, TryAgainError

_MAX_BYTES: Final = 16 << 10


def private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700 if it is not there.

    Raises:
        ConfigurationError: reason `keys_unsafe`: it is no folder, belongs to another user, or is open to others.
        TryAgainError: reason `keys_unavailable`.
    """
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700, parents=True)
        _refuse_unsafe(folder.lstat(), folder, stat.S_IFDIR)
    except OSError as error:
        raise _unavailable(error) from error


def open_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    """The content of the private file, at most 16 KiB; what `make` gives is written first if there is none.

    Raises:
        ConfigurationError, TryAgainError: as for `private_folder`.
    """
    try:
        data = _read(path)
        if data is None:
            data = make()
            _write(path, data)
    except OSError as error:
        raise _unavailable(error) from error
    return data


def _unavailable(error: OSError) -> TryAgainError:
    return TryAgainError(
        f"keys of the evidence cannot be read or written: {error.strerror}",
        reason="keys_unavailable",
        fix="check free space and permissions of the state folder",
    )


def _refuse_unsafe(info: os.stat_result, what: Path, kind: int) -> None:
    if stat.S_IFMT(info.st_mode) != kind:
        raise ConfigurationError(f"{what} is not what it should be", reason="keys_unsafe", fix="remove it")
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigurationError(
            f"{what} belongs to user id {info.st_uid} with mode {stat.S_IMODE(info.st_mode):04o}: "
            "others may have read what is in it",
            reason="keys_unsafe",
            fix="replace the key if others use this machine; then only the daemon's user may have access",
        )


def _read(path: Path) -> bytes | None:
    try:
        # Never through a link: the check must be about the file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        _refuse_unsafe(os.fstat(file.fileno()), path, stat.S_IFREG)
        return file.read(_MAX_BYTES)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: written beside its place, synced, then renamed."""
    temporary = path.with_name(f"{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _rename(temporary, path)


def rename(old: Path, new: Path) -> None:
    """Give a private file another name in its folder, durably.

    Raises:
        TryAgainError: reason `keys_unavailable`.
    """
    try:
        _rename(old, new)
    except OSError as error:
        raise _unavailable(error) from error


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable.

    Raises:
        OSError: they may not be.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
