"""The writing side of the audit log: its files, used by one thread at a time, no asyncio.

A group of records is one write and one sync. Nothing in memory changes before that has succeeded, and what a failed
write left behind is cut off before the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError, OrchestratorError, TryAgainError
from orchestrator.evidence.audit.checkpoint import sign_checkpoint
from orchestrator.evidence.audit.note import MAX_NOTE_BYTES, NoteKey, whole_notes
from orchestrator.evidence.audit.ownership import Ownership
from orchestrator.evidence.audit.record import FIRST_PREV, Prepared
from orchestrator.evidence.audit.replay import replay, tampered
from orchestrator.evidence.audit.segments import HISTORY, NEWEST, VKEY, Segment, Start
from orchestrator.evidence.audit.tree import Tree, leaf_hash
from orchestrator.private_file import private_folder, sync_folder

_FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)
_PROBE: Final = "probe"
_PROBE_BYTES: Final = 64 << 10
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Pace:
    """When a checkpoint is signed: `checkpoint_seconds` after the first record that none covers, or once there are
    `checkpoint_records` of them. A segment of `segment_bytes` or more is followed by a new one.
    """

    checkpoint_seconds: float = 10.0
    checkpoint_records: int = 1000
    segment_bytes: int = 64 << 20


def unavailable(detail: str, fix: str = "see the daemon's log; restart it if this lasts") -> TryAgainError:
    return TryAgainError(f"the audit log cannot store records: {detail}", reason="audit_unavailable", fix=fix)


class AuditStore:
    """An open log. `problem` says why the last try to write failed; other threads may read the plain attributes."""

    def __init__(
        self, folder: Path, key: NoteKey, clock_ns: Callable[[], int], pace: Pace, ownership: Ownership
    ) -> None:
        self._folder = folder
        self._key = key
        self._clock_ns = clock_ns
        self._pace = pace
        self._ownership = ownership
        self.vkey = key.verifier.vkey
        self.problem: OrchestratorError | None = None
        self.last_journal_seq = 0
        self._tree = Tree()
        self._prev = FIRST_PREV
        self._uncovered_ns = 0
        self._torn = False

    @classmethod
    def open(cls, folder: Path, key: NoteKey, clock_ns: Callable[[], int], pace: Pace) -> AuditStore:
        """See `AuditLog.open`."""
        _make_private(folder)
        ownership = Ownership.take(folder)
        store = cls(folder, key, clock_ns, pace, ownership)
        try:
            store._take_up()
        except OSError as error:
            ownership.release()
            raise ConfigurationError(
                f"the audit log in {folder} cannot be opened: {error.strerror}",
                reason="audit_unwritable",
                fix="check free space, owner and permissions of the folder",
            ) from error
        except BaseException:
            ownership.release()
            raise
        return store

    def _take_up(self) -> None:
        found = replay(self._folder, self._key.verifier)
        self._tree = found.tree if found else Tree()
        self._prev = found.prev if found else FIRST_PREV
        self.last_journal_seq = found.journal_seq if found else 0
        if not self._has(VKEY, self.vkey + "\n"):
            self._replace(VKEY, self.vkey + "\n")
        if found is None:
            # What a kill leaves of this is begun again: the segment's file comes last.
            self._sign()
            self._begin_segment()
            return
        self.checkpoint, self._uncovered_ns, self._offset = found.checkpoint, self._clock_ns(), found.offset
        self._segment = found.segment
        self._file = os.open(found.segment.path, _FLAGS)
        self._cut()

    @property
    def size(self) -> int:
        return self._tree.size

    def commit(self, records: Sequence[Prepared]) -> bool:
        """Make `records` durable, all or none; False and a `problem` if none."""
        return self._try(lambda: self._write(records))

    def probe(self) -> bool:
        """See whether records could be written again."""
        return self._try(self._write_probe)

    def checkpoint_if_due(self) -> bool:
        """Whether a new checkpoint was signed."""
        due = self.due_seconds()
        return due is not None and due <= 0 and self._try(self._sign)

    def due_seconds(self) -> float | None:
        """Time until a checkpoint is due; None while the last one covers everything."""
        uncovered = self.size - self.checkpoint.size
        if not uncovered:
            return None
        if uncovered >= self._pace.checkpoint_records:
            return 0.0
        return self._pace.checkpoint_seconds - (self._clock_ns() - self._uncovered_ns) / 1e9

    def close(self) -> bool:
        """Sign a last checkpoint if it can be done, and let go of the folder; whether there is a new one."""
        signed = self.size > self.checkpoint.size and self._try(self._sign)
        os.close(self._file)
        self._ownership.release()
        return signed

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            self._look()
            work()
        except ConfigurationError as error:
            self.problem = error
        except OSError as error:
            if self._torn:
                # At once if it can be done, so that nobody takes for records what was never confirmed.
                with contextlib.suppress(OSError, ConfigurationError):
                    self._cut()
            full = error.errno in _FULL_DISK
            fix = f"free space on the file system of {self._folder}; the daemon goes on by itself"
            detail = error.strerror or type(error).__name__
            self.problem = unavailable(detail, fix) if full else unavailable(detail)
        else:
            self.problem = None
            return True
        return False

    def _look(self) -> None:
        """Is the file still the one that was written, under its name, and as long? A torn write of ours is cut off."""
        if self._torn:
            self._cut()
        held = os.fstat(self._file)
        try:
            named = self._segment.path.lstat()
        except FileNotFoundError:
            raise tampered(self._folder, f"{self._segment.path.name} was removed") from None
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
            raise tampered(self._folder, f"{self._segment.path.name} was replaced")
        if held.st_size != self._offset:
            raise tampered(self._folder, f"{self._segment.path.name} has another length than what was written")

    def _write(self, records: Sequence[Prepared]) -> None:
        if self._offset >= self._pace.segment_bytes:
            if self.size > self.checkpoint.size:
                self._sign()
            before = self._file
            self._begin_segment()
            os.close(before)
        lines: list[bytes] = []
        seq, prev = self.size, self._prev
        for record in records:
            seq += 1
            line, prev = record.line(seq, prev)
            lines.append(line)
        data = b"\n".join([*lines, b""])
        self._torn = True
        _write_all(self._file, data)
        os.fdatasync(self._file)
        self._torn = False
        if self.size == self.checkpoint.size:
            self._uncovered_ns = self._clock_ns()
        self._offset += len(data)
        self._prev = prev
        for line in lines:
            self._tree.add(leaf_hash(line))
        self.last_journal_seq = max(self.last_journal_seq, *(record.journal_seq for record in records))

    def _cut(self) -> None:
        if os.fstat(self._file).st_size < self._offset:
            raise tampered(self._folder, f"{self._segment.path.name} is shorter than what was written")
        os.ftruncate(self._file, self._offset)
        os.fsync(self._file)
        self._torn = False

    def _begin_segment(self) -> None:
        segment = Segment.of(self._folder, self.size + 1)
        start = Start(self._tree, self._prev, self.last_journal_seq).sign(self._key)
        self._replace(segment.start.name, start.note)
        fresh = os.open(segment.path, _FLAGS | os.O_CREAT, 0o600)
        try:
            if os.fstat(fresh).st_size:
                raise tampered(self._folder, f"{segment.path.name} was there before its first record")
            sync_folder(self._folder)
        except BaseException:
            os.close(fresh)
            raise
        self._file, self._segment, self._offset = fresh, segment, 0

    def _sign(self) -> None:
        """The history is told first: it may then name more than `checkpoint` does, never less."""
        signed = sign_checkpoint(self._key, self.size, self._tree.root())
        history = os.open(self._folder / HISTORY, _FLAGS | os.O_CREAT, 0o600)
        try:
            _cut_torn_note(history)
            _write_all(history, f"{signed.note}\n".encode())
            os.fsync(history)
        finally:
            os.close(history)
        self._replace(NEWEST, signed.note)
        self.checkpoint = signed

    def _has(self, name: str, text: str) -> bool:
        """Spares a write: a log can be opened on a full disk, and then says that it is not healthy."""
        try:
            return (self._folder / name).read_text(encoding="utf-8", errors="replace") == text
        except FileNotFoundError:
            return False

    def _replace(self, name: str, text: str) -> None:
        """Whole or not at all, for readers and for a crash."""
        path, fresh = self._folder / name, self._folder / f"{name}.tmp"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(path)
        sync_folder(self._folder)

    def _write_probe(self) -> None:
        path = self._folder / _PROBE
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, bytes(_PROBE_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()


def _make_private(folder: Path) -> None:
    try:
        private_folder(folder)
    except OrchestratorError as error:
        why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else "it is not the daemon's alone"
        raise ConfigurationError(
            f"{folder} cannot be the folder of the audit log: {why}",
            reason="audit_unwritable",
            fix="name a folder, no link to one, that belongs to the daemon's user with mode 0700, or that it can make",
        ) from error


def _cut_torn_note(history: int) -> None:
    """What a write that failed, or was killed, has left at the end."""
    size = os.fstat(history).st_size
    start = max(0, size - MAX_NOTE_BYTES)
    end = os.pread(history, MAX_NOTE_BYTES, start)
    whole = len(whole_notes(end))
    if whole < len(end):
        os.ftruncate(history, start + whole)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
