"""`orchestrator restore`: check a backup as a whole, then put it where there is nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from orchestrator.daemon.backup.archive import Manifest, Member, damaged, read_all
from orchestrator.daemon.backup.copying import check_database, is_database
from orchestrator.daemon.backup.places import AUDIT, DECISIONS, LOST, RESTORING, STATE, belongs_to_a_database, places
from orchestrator.daemon.backup.room import has_room
from orchestrator.daemon.backup.unfinished import end_unfinished
from orchestrator.errors import ConfigurationError, GiveUpError, OrchestratorError, TryAgainError
from orchestrator.evidence.audit.note import NoteRefusedError, NoteVerifier
from orchestrator.evidence.audit.segments import NEWEST, VKEY, read_note
from orchestrator.evidence.audit.verify import verify
from orchestrator.model.job import JobId
from orchestrator.private_file import sync_folder
from orchestrator.settings import Settings

Progress = Callable[[int], None]
"""Bytes read so far."""

STDIN: Final = Path("-")
"""The backup comes from standard input."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A backup that is whole. `audit_records` is None where it holds no audit log."""

    manifest: Manifest
    audit_records: int | None


def check(file: Path, progress: Progress) -> Checked:
    """Read everything, open every database, verify the audit log. Nothing is put anywhere.

    Raises:
        OrchestratorError: reasons `backup_damaged`, `backup_newer`, `restore_unwritable` (no room to check it).
    """
    with tempfile.TemporaryDirectory(prefix="orchestrator-restore-") as scratch:
        staged = _Stages({}, Path(scratch))
        return _unpack(file, staged, progress)


def restore(
    settings: Settings, file: Path, *, keep_jobs: bool, newer_audit: Path | None, progress: Progress
) -> tuple[Checked, list[JobId]]:
    """Check a backup, and put it into the folders of `settings`, which must be empty or missing.

    Unless `keep_jobs`, jobs that were not at their end are cancelled by the next start. Returns which. `newer_audit` is
    a later state of the backup's audit log, to be put in its place.

    Raises:
        OrchestratorError: as `check`, and `restore_not_empty`, `restore_unwritable`, or a place in the backup that
            the settings do not have (`restore_misplaced`). Nothing was put anywhere.
    """
    folders = dict(places(settings))
    staged: dict[str, Path] = {}
    try:
        try:
            for name, folder in folders.items():
                staged[name] = _stage(folder)
            checked = _unpack(file, _Stages(staged, None), progress)
            if newer_audit is not None:
                checked = replace(checked, audit_records=_take_newer(newer_audit, staged))
            ended = [] if keep_jobs else _end_unfinished(staged[STATE] / "journal.db", checked.manifest)
            for stage in staged.values():
                _sync(stage)
            for folder in folders.values():  # a daemon that was just starting saw no stage
                _demand_empty(folder, RESTORING)
        except BaseException:
            for stage in staged.values():
                shutil.rmtree(stage, ignore_errors=True)
            raise
        # From here on a stage that is left says that not all is there.
        _put(folders, staged)
    except OSError as error:
        raise _unwritable(error, file) from error
    return checked, ended


class _Stages:
    """Where each place of a backup is unpacked to: the folder staged for it, or one below `scratch`."""

    def __init__(self, folders: Mapping[str, Path], scratch: Path | None) -> None:
        self._folders = folders
        self._scratch = scratch

    def folder(self, place: str) -> Path:
        """
        Raises:
            ConfigurationError: reason `restore_misplaced`.
        """
        if self._scratch is not None:
            return self._scratch / place
        if place not in self._folders:
            raise ConfigurationError(
                f"the backup holds the folder of {place!r}, for which the settings name no place of its own",
                reason="restore_misplaced",
                fix="give the settings of the daemon that was backed up with --config, with paths that may differ",
            )
        return self._folders[place]

    def path(self, name: str) -> Path:
        place, _, rest = name.partition("/")
        unfit = not rest or belongs_to_a_database(rest) or PurePosixPath(rest).parts[0] == RESTORING
        if place not in (STATE, AUDIT, DECISIONS) or unfit:
            raise damaged(f"it holds {name[:200]!r}, which is no file of ours")
        return self.folder(place) / PurePosixPath(rest)


def _unpack(file: Path, stages: _Stages, progress: Progress) -> Checked:
    done = 0

    with ExitStack() as stack:

        def take(member: Member) -> Callable[[bytes], Any]:
            path = stages.path(member.name)
            _make_folders(path.parent)
            stack.close()
            _demand_room(path.parent, member)
            out = stack.enter_context(_new_file(path))

            def give(data: bytes) -> None:
                nonlocal done
                out.write(data)
                done += len(data)
                progress(done)

            return give

        try:
            with nullcontext(sys.stdin.buffer) if file == STDIN else file.open("rb") as opened:
                manifest = read_all(opened, take)
        except OSError as error:
            raise _unwritable(error, file) from error
    paths = {entry.name: stages.path(entry.name) for entry in manifest.files}
    for name, path in paths.items():
        if is_database(path):
            check_database(path, f"{name} of the backup")
    if f"{STATE}/journal.db" not in paths:
        raise damaged("it holds no journal")
    return Checked(manifest, _audited(paths))


def _make_folders(folder: Path) -> None:
    """Each of them is for this user alone: `Path.mkdir` gives its mode to the last one only."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700)


def _demand_room(folder: Path, member: Member) -> None:
    """A small file can claim to be a large one. No member gives more than it claims, so this is asked first."""
    if has_room(folder, member.size):
        return
    raise TryAgainError(
        f"the backup holds {member.name[:200]!r} of {member.size} bytes, for which the disk of {folder} has no room",
        reason="restore_unwritable",
        fix="give it free space, and distrust a backup that is far larger than what was backed up",
    )


def _audited(paths: Mapping[str, Path]) -> int | None:
    """How many records of the audit log hold; all must."""
    keys = [path for name, path in paths.items() if name in (f"{AUDIT}/{VKEY}", f"{STATE}/audit/{VKEY}")]
    if not keys:
        return None
    folder = keys[0].parent
    try:
        report = verify(folder, NoteVerifier.parse(read_note(keys[0])), ())
    except NoteRefusedError as error:
        raise damaged(f"the key of its audit log: {error}") from None
    if not report.ok:
        why = report.finding.why if report.finding else report.refused[0].why
        raise GiveUpError(
            f"the audit log of the backup does not hold: {why}",
            reason="backup_damaged",
            fix="take another backup; `orchestrator audit verify` on a copy of the folder names the first bad record",
        )
    return report.records


def _take_newer(newer: Path, staged: Mapping[str, Path]) -> int:
    """Put a later state of the audit log in place of the backup's, whose newest checkpoint proves that it is one: what
    was anchored since the backup then still holds."""
    folder = staged[AUDIT] if AUDIT in staged else staged[STATE] / "audit"
    if not (folder / VKEY).is_file():
        raise damaged("it holds no audit log that another could be a later state of")
    kept = [path for path in (folder / NEWEST,) if path.is_file()]
    report = verify(newer, NoteVerifier.parse(read_note(folder / VKEY)), kept)
    if not report.ok:
        why = report.finding.why if report.finding else report.refused[0].why
        raise GiveUpError(
            f"{newer} is no later state of the backup's audit log, or does not hold: {why}",
            reason="restore_misplaced",
            fix="give the newest copy of the same log, or none: without --newer-audit, and without --aside",
        )
    shutil.rmtree(folder)
    _make_folders(folder)
    for path in newer.iterdir():
        if path.name != "lock" and path.is_file():
            with path.open("rb") as source, _new_file(folder / path.name) as out:
                shutil.copyfileobj(source, out)
    return report.records


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """For this user alone, and durable at the end."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())


def _end_unfinished(journal: Path, manifest: Manifest) -> list[JobId]:
    return asyncio.run(end_unfinished(journal, manifest.made_at))


def _stage(target: Path) -> Path:
    """Make a folder in `target` to unpack into; while it is there, no daemon starts on `target`.

    Raises:
        ConfigurationError: reason `restore_not_empty`.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    _demand_empty(target)
    stage = target / RESTORING
    try:
        stage.mkdir(mode=0o700)
    except FileExistsError:
        raise _not_empty(target, restoring=True) from None
    if target.stat().st_mode & 0o077:
        target.chmod(0o700)
    return stage


def _demand_empty(target: Path, *but: str) -> None:
    others = {path.name for path in target.iterdir()} - {LOST, *but}
    if others:
        raise _not_empty(target, restoring=RESTORING in others)


def _not_empty(target: Path, *, restoring: bool) -> ConfigurationError:
    if restoring:
        what = "holds a restore that is under way, or was cut short"
        fix = "wait for it; if none is running, restore again with --aside"
    else:
        what, fix = "is not empty", "restore into a new folder, or move what is there away first"
    return ConfigurationError(f"{target} {what}", reason="restore_not_empty", fix=fix)


def _sync(stage: Path) -> None:
    for parent, _, _ in os.walk(stage):
        sync_folder(Path(parent))


def _put(folders: Mapping[str, Path], staged: Mapping[str, Path]) -> None:
    """The state folder last, and its stage goes last of all: as long as it is there, no daemon starts."""
    for name in sorted(folders, key=lambda name: name == STATE):
        for child in sorted(staged[name].iterdir()):
            child.rename(folders[name] / child.name)
        sync_folder(folders[name])
    for name in sorted(folders, key=lambda name: name == STATE):
        staged[name].rmdir()
        sync_folder(folders[name])


def _unwritable(error: OSError, backup: Path) -> OrchestratorError:
    if error.filename is not None and Path(error.filename) == backup:
        return ConfigurationError(
            f"the backup {backup} cannot be read: {error.strerror or error}",
            reason="backup_unreadable",
            fix="name the file that `orchestrator backup` made; it must be readable by this user",
        )
    return TryAgainError(
        f"the backup cannot be read or put back: {error.filename or ''} {error.strerror or error}".replace("  ", " "),
        reason="restore_unwritable",
        fix="check free space and permissions; then restore again into an empty folder",
    )
