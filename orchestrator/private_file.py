"""Files that hold a secret: of this user alone, never followed through a link, made or replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from orchestrator.errors import ConfigurationError, TryAgainError

_turns: WeakValueDictionary[Path, threading.Lock] = WeakValueDictionary()
_turns_lock = threading.Lock()


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


def read_private_file(path: Path, limit: int) -> bytes | None:
    """Up to `limit` bytes of a file of this user alone; None when there is none.

    Raises:
        ConfigurationError, TryAgainError: as for `private_folder`.
    """
    try:
        # Never through a link: the check must be about the file that is read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _refuse_unsafe(os.fstat(file.fileno()), path, stat.S_IFREG)
            return file.read(limit)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unavailable(error) from error


def open_or_make(path: Path, make: Callable[[], bytes], limit: int = 16 << 10) -> bytes:
    """The content of the private file, at most `limit` bytes; what `make` gives is written first if there is none.

    Raises:
        ConfigurationError, TryAgainError: as for `private_folder`.
    """
    data = read_private_file(path, limit)
    if data is None:
        data = make()
        write_private_file(path, data)
    return data


def rename(old: Path, new: Path) -> None:
    """Give a private file another name in its folder, durably.

    Raises:
        TryAgainError: reason `keys_unavailable`.
    """
    try:
        old.rename(new)
        sync_folder(new.parent)
    except OSError as error:
        raise _unavailable(error) from error


def write_private_file(path: Path, data: bytes) -> None:
    """Replace the file, mode 0600, whole or not at all.

    Raises:
        TryAgainError: reason `keys_unavailable`; the old one is as it was.
    """
    try:
        replace_private_file(path, data)
    except OSError as error:
        raise _unavailable(error) from error


def replace_private_file(path: Path, data: bytes) -> None:
    """Replace a file of mode 0600 so that every reader and every crash sees the old or the new one, whole. Of threads
    that replace the same one, each does it to its end; the order is theirs to see to.

    Raises:
        OSError: nothing was replaced.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with _turn(path):
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        create_private_file(temporary, data)
        try:
            temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


def _turn(path: Path) -> threading.Lock:
    """Kept for as long as somebody has it. Who waited for a write may be gone, and the next one begin, before it is
    done."""
    with _turns_lock:
        return _turns.setdefault(path, threading.Lock())


def create_private_file(path: Path, data: bytes, modified_at_ns: int | None = None) -> None:
    """Make a new file of mode 0600, and never write to one that is there. Its bytes are durable when this returns, its
    name after `sync_folder`. `modified_at_ns` is the time that it gets, in Unix nanoseconds; None: now.

    Raises:
        FileExistsError: the name is taken, if only by a link that leads nowhere.
        OSError: nothing of it is left.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if modified_at_ns is not None:
                os.utime(file.fileno(), ns=(modified_at_ns, modified_at_ns))
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


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


def damaged(path: Path, consequence: str) -> ConfigurationError:
    """For a file that cannot be read as what it should be. The cause may quote a secret, so chain nothing."""
    return ConfigurationError(
        f"{path} is damaged",
        reason="keys_corrupt",
        fix=f"restore it from a backup, or remove it: {consequence}",
    )


def _refuse_unsafe(info: os.stat_result, what: Path, kind: int) -> None:
    if stat.S_IFMT(info.st_mode) != kind:
        raise ConfigurationError(f"{what} is not what it should be", reason="keys_unsafe", fix="remove it")
    if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigurationError(
            f"{what} belongs to user id {info.st_uid} with mode {stat.S_IMODE(info.st_mode):04o}: "
            "others may have read what is in it",
            reason="keys_unsafe",
            fix=f"replace it if others use this machine, then chmod {'0700' if kind == stat.S_IFDIR else '0600'}",
        )


def _unavailable(error: OSError) -> TryAgainError:
    return TryAgainError(
        f"keys cannot be read or written: {error.strerror}",
        reason="keys_unavailable",
        fix="check free space and permissions of the state folder",
    )
