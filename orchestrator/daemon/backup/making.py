"""`orchestrator backup`: everything into one private file, whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from orchestrator import __version__
from orchestrator.daemon.backup.archive import Entry, Manifest, Writer, read_all
from orchestrator.daemon.backup.copying import Copied, copy_database, is_database
from orchestrator.daemon.backup.places import STATE, Source, places, sources
from orchestrator.daemon.backup.room import has_room
from orchestrator.errors import ConfigurationError, GiveUpError, OrchestratorError, TryAgainError
from orchestrator.private_file import create_private_file, sync_folder
from orchestrator.settings import Settings

Progress = Callable[[int, int], None]
"""Bytes copied so far, and of all files as they were at the beginning."""

_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What file systems without hard links say, such as FAT and some that are mounted by a network or a bucket."""
_LOCK: Final = "lock"
_PART: Final = "part"
_STREAMED: Final = ".orchestrator-stream.backup.partial"
_JOURNAL: Final = f"{STATE}/journal.db"


def back_up(settings: Settings, target: Path, *, logs: bool, progress: Progress) -> Manifest:
    """Write a backup to the file `target`, which must not exist, read it again, and only then give it its name.

    Works beside a running daemon, as its user. What is there when this is killed is `.<name>.partial`, which the next
    backup of that name removes; one that was named by the time, the next backup there.

    Raises:
        OrchestratorError: reasons `backup_exists`, `backup_running`, `backup_unwritable`, `backup_damaged` (what is
            stored is not whole), `state_dir_unusable`.
    """
    _check_owner(settings.state_dir)
    if target.exists():
        raise _exists(target)
    _sweep(target.parent)
    try:
        with _scratch(target.with_name(f".{target.name}.partial")) as scratch:
            part = scratch / _PART
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
                manifest = write(settings, out, scratch, logs=logs, progress=progress)
                out.flush()
                os.fsync(out.fileno())
            with part.open("rb") as file:
                read_all(file, lambda _: _nothing)
            _name(part, target)
            sync_folder(target.parent)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        raise _unwritable(error, target) from error
    return manifest


def stream(
    settings: Settings, out: IO[bytes], *, logs: bool, progress: Progress, scratch: Path | None = None
) -> Manifest:
    """Write a backup to a stream; whoever reads it knows by its end whether it is whole.

    Databases are copied in `scratch` first, by default where temporary files are. What is left there when this is
    killed, the next backup with the same `scratch` removes.

    Raises:
        OrchestratorError: as `back_up`.
    """
    _check_owner(settings.state_dir)
    try:
        with ExitStack() as stack:
            if scratch is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="orchestrator-backup-")))
            else:
                folder = stack.enter_context(_scratch(scratch / _STREAMED))
            manifest = write(settings, out, folder, logs=logs, progress=progress)
            out.flush()
    except OSError as error:
        raise _unwritable(error, Path("standard output")) from error
    return manifest


def write(settings: Settings, out: IO[bytes], scratch: Path, *, logs: bool, progress: Progress) -> Manifest:
    """The backup itself. `scratch` has room for one copy of the largest database.

    Raises:
        OrchestratorError: reason `backup_damaged` or `state_dir_unusable`.
        OSError: it cannot be written.
    """
    found = sources(places(settings), logs=logs)
    if not found or found[0].name != _JOURNAL:
        raise ConfigurationError(
            f"the state folder {settings.state_dir} holds no journal, so no daemon has run on it",
            reason="state_dir_unusable",
            fix="name the daemon's with --state-dir, or its settings with --config",
        )
    total = sum(_size(one.path) for one in found)
    done = 0

    def moved(size: int) -> None:
        nonlocal done
        done += size
        progress(done, max(done, total))

    writer = Writer(out)
    entries: list[Entry] = []
    jobs = (0, 0)
    for source in found:
        with _copy(source, scratch) as path:
            if source.name == _JOURNAL:
                jobs = _jobs_in(path, source.path)
            copied = _add(writer, source, path, moved)
        if copied is not None:
            entries.append(Entry(source.name, copied.size, copied.sha256))
    made_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    manifest = Manifest(made_at, __version__, *jobs, tuple(entries))
    writer.finish(manifest)
    return manifest


def _add(writer: Writer, source: Source, path: Path, moved: Callable[[int], None]) -> Copied | None:
    """None for a file that went away: what a room deletes is nothing that it needs."""
    try:
        return writer.add(source.name, path, moved)
    except FileNotFoundError:
        return None
    except EOFError:
        raise TryAgainError(
            f"{source.path} became shorter while it was copied", reason="backup_unwritable", fix="make the backup again"
        ) from None


@contextmanager
def _copy(source: Source, scratch: Path) -> Iterator[Path]:
    """The file to take: a database's copy, or the file itself."""
    try:
        database = is_database(source.path)
    except FileNotFoundError:
        database = False
    if not database:
        yield source.path
        return
    copy = scratch / "database"
    if not has_room(scratch, _size(source.path)):
        raise TryAgainError(
            f"{scratch} has no room for a copy of {source.path}, {_size(source.path)} bytes",
            reason="backup_unwritable",
            fix="write to a disk with more room; for a pipe name one with --scratch",
        )
    try:
        copy_database(source.path, copy)
        yield copy
    except sqlite3.Error as error:
        raise GiveUpError(
            f"{source.path} cannot be copied: {error}",
            reason="backup_unwritable",
            fix="check free space beside the backup, and that the file is whole",
        ) from error
    finally:
        copy.unlink(missing_ok=True)


def _jobs_in(copy: Path, journal: Path) -> tuple[int, int]:
    """The highest number of a fact, and how many jobs are not at their end."""
    try:
        with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            # What `meta` has is written down when facts go, so that no number comes twice.
            (noted,) = connection.execute("SELECT value FROM meta WHERE key = 'last_seq'").fetchone()
            (newest,) = connection.execute("SELECT ifnull(max(seq), 0) FROM facts").fetchone()
            (unfinished,) = connection.execute("SELECT count(*) FROM jobs WHERE open = 1").fetchone()
    except (sqlite3.DatabaseError, TypeError):
        raise GiveUpError(
            f"{journal} is no journal, or damaged",
            reason="backup_damaged",
            fix="keep the last good backup, and look into it",
        ) from None
    return max(int(noted), int(newest)), int(unfinished)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _name(part: Path, target: Path) -> None:
    """Give a whole backup its name, and take nobody else's.

    Raises:
        FileExistsError: the name is taken.
        OSError: it has none.
    """
    try:
        os.link(part, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # The name is taken first, for a rename alone would replace what somebody else has made meanwhile.
        create_private_file(target, b"")
        try:
            part.rename(target)
        except BaseException:
            target.unlink()
            raise


def _nothing(_data: bytes) -> None:
    """Read to be hashed, and for nothing else."""


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A private folder beside the backup. One that a killed backup has left is emptied; a living one keeps us out."""
    folder.mkdir(mode=0o700, exist_ok=True)
    _demand_own(folder)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _take(descriptor, folder)
        try:
            for left in folder.iterdir():
                if left.name != _LOCK:
                    left.unlink()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what killed backups that were named by the time have left: no other will have their names."""
    for left in folder.glob(".orchestrator-*.backup.partial"):
        with suppress(OrchestratorError, OSError), _scratch(left):
            pass


def _demand_own(folder: Path) -> None:
    """Where others may write, somebody may have put a folder or a link there for us to empty."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigurationError(
            f"{folder} is no private folder of this user",
            reason="backup_unwritable",
            fix="remove it, or write elsewhere",
        )


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = os.fstat(descriptor).st_nlink > 0  # or it was that of a backup which has just ended
    except OSError:
        taken = False
    if not taken:
        raise TryAgainError(f"another backup is being written to {folder}", reason="backup_running", fix="wait for it")


def _check_owner(folder: Path) -> None:
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise ConfigurationError(
            f"the state folder {folder} cannot be read: {error.strerror}",
            reason="state_dir_unusable",
            fix="name the daemon's with --state-dir, or its settings with --config",
        ) from error
    if owner != os.geteuid():
        raise ConfigurationError(
            f"the state folder {folder} belongs to user id {owner}",
            reason="state_dir_unusable",
            fix=f"make the backup as that user: sudo -u '#{owner}' orchestrator backup",
        )


def _exists(target: Path) -> OrchestratorError:
    return ConfigurationError(f"{target} is there already", reason="backup_exists", fix="choose another name")


def _unwritable(error: OSError, target: Path) -> OrchestratorError:
    where = f"{error.filename}: " if error.filename and str(error.filename) != str(target) else ""
    return TryAgainError(
        f"the backup cannot be written to {target}: {where}{error.strerror or error}",
        reason="backup_unwritable",
        fix="check free space and permissions there; nothing that was begun is left",
    )
