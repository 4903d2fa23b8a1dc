"""Keeps each decision, on a thread of its own: nobody waits for it, and a disk that refuses stops nothing.

What cannot be kept is counted, and the numbers of what is kept show where something is missing. Nothing is synced but a
file that is complete: when the machine loses its power, or the daemon is killed, the last moment may be missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from orchestrator.errors import ConfigurationError
from orchestrator.policy.decide import Answered
from orchestrator.policy.decision_log.entry import Place, line_of
from orchestrator.policy.decision_log.segment_file import SegmentFile
from orchestrator.policy.decision_log.segments import State, piece_of, segments_of
from orchestrator.policy.decision_log.shadow import Candidate

MAX_WAITING_BYTES: Final = 64 << 20
"""Most bytes of decisions that wait for the thread; what comes while it is full is lost, and counted."""

_BESIDES_INPUT = 1 << 10
_LINGER_SECONDS = 0.5
_PIECE_BYTES = 256 << 10
_LOOK_SECONDS = 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: bytes of all files together, and for how long, nanoseconds. A file is complete after
    `segment_bytes`, or `segment_ns` after its first decision."""

    max_bytes: int
    retention_ns: int
    segment_bytes: int = 4 << 20
    segment_ns: int = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class _Waiting:
    answered: Answered
    number: int


class DecisionLog:
    """An open log. All members are for the event loop it was made on.

    Args:
        folder: made with mode 0700; nobody else writes there.
        labels: said of every decision, such as the program's version.
        bounds: how much is kept.
        candidate: asked about each decision besides.
        now_ns: Unix time, for what is too old.

    Raises:
        ConfigurationError: reason `decision_log_unusable`: no such folder can be used. A full disk is no reason.
    """

    def __init__(
        self,
        folder: Path,
        labels: Mapping[str, str],
        bounds: Bounds,
        candidate: Candidate,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.run = secrets.token_hex(4)
        """Stands in each decision of this daemon."""
        self.cut = _take_over(folder)
        """Files whose daemon was killed before this one began: the last moment of each may be missing."""
        self._folder = folder
        self._labels = dict(labels)
        self._bounds = bounds
        self._candidate = candidate
        self._now_ns = now_ns
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._number = 0
        self._taken_bytes = 0
        self._refused = 0
        self._closed = False
        # The thread's own; read elsewhere.
        self._done_bytes = 0
        self._written = 0
        self._lost = 0
        self._problem = ""
        self._file: SegmentFile | None = None
        self._bytes = 0
        self._thread = threading.Thread(target=self._work, name="decision-log", daemon=True)
        self._thread.start()

    @property
    def written(self) -> int:
        """Decisions that are in the log's files."""
        return self._written

    @property
    def lost(self) -> int:
        """Decisions that were not kept: the disk refused them, or they came faster than it takes them."""
        return self._lost + self._refused

    @property
    def healthy(self) -> bool:
        """Whether the last decision could be kept."""
        return not self._problem

    @property
    def size(self) -> int:
        """Bytes of all files, as of the last look, and what was written since."""
        return self._bytes

    def offer(self, answered: Answered) -> None:
        """Keep a decision. Returns at once and never raises."""
        self._number += 1
        size = _weight(answered)
        if self._closed or self._taken_bytes - self._done_bytes + size > MAX_WAITING_BYTES:
            self._refused += 1
            return
        self._taken_bytes += size
        self._queue.put(_Waiting(answered, self._number))

    async def close(self) -> None:
        """Keep what waits, and complete the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    # ── on the log's thread ───────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        self._tidy()
        open_ = True
        while open_:
            open_, batch = self._gather()
            try:
                self._keep(batch)
            except Exception:  # noqa: BLE001 -- the thread must outlive any defect
                self._fail(len(batch), "a defect")
                with contextlib.suppress(OSError):
                    _log.exception("decision_log_failed")
            self._done_bytes += sum(_weight(one.answered) for one in batch)
            if not batch and open_:
                self._tidy()
        self._complete()

    def _gather(self) -> tuple[bool, list[_Waiting]]:
        """What comes within a moment, as one piece; nothing when for long nothing came. False at the end."""
        batch: list[_Waiting] = []
        size, until = 0, time.monotonic() + _LOOK_SECONDS
        while size < _PIECE_BYTES:
            try:
                item = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if item is None:
                return False, batch
            if not batch:
                until = time.monotonic() + _LINGER_SECONDS
            batch.append(item)
            size += _weight(item.answered)
        return True, batch

    def _keep(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        lines = b"".join(self._line(one) for one in batch)
        piece = piece_of(lines)
        try:
            self._ready(batch[0]).append(piece)
        except OSError as error:
            self._fail(len(batch), error.strerror or "unknown")
            return
        self._written += len(batch)
        self._bytes += len(piece)
        self._well()

    def _line(self, one: _Waiting) -> bytes:
        shadow = self._candidate.ask(one.answered.evaluation, one.answered.input_json)
        return line_of(one.answered, Place(self.run, one.number), self._labels, shadow)

    def _ready(self, first: _Waiting) -> SegmentFile:
        """The file to write to; a new one when the last is complete."""
        file, at_ns = self._file, first.answered.time_ns
        if file is not None:
            old = at_ns - file.first_ns > self._bounds.segment_ns
            if file.size < self._bounds.segment_bytes and not old:
                return file
            self._complete()
            self._tidy()
        # A disk that was full at the start did not even take the folder.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = SegmentFile(self._folder, at_ns, self.run, first.number)
        return self._file

    def _complete(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.complete()
        except OSError as error:
            with contextlib.suppress(OSError):
                _log.warning("decision_log_file_not_completed", error=error.strerror)

    def _tidy(self) -> None:
        """Let go of what is too old, and of the oldest while there is too much."""
        current = self._file.path if self._file else None
        try:
            found = [(one.path, one.path.stat()) for one in segments_of(self._folder) if one.path != current]
            oldest = self._now_ns() - self._bounds.retention_ns
            total = sum(status.st_size for _, status in found) + (self._file.size if self._file else 0)
            for path, status in found:
                if status.st_mtime_ns < oldest or total > self._bounds.max_bytes:
                    path.unlink()
                    total -= status.st_size
            self._bytes = total
        except OSError as error:
            with contextlib.suppress(OSError):
                _log.warning("decision_log_not_tidied", error=error.strerror)

    def _fail(self, lost: int, why: str) -> None:
        self._lost += lost
        if self._problem != why:
            self._problem = why
            # The daemon's own log may lie on the same full disk.
            with contextlib.suppress(OSError):
                _log.error("decisions_not_kept", error=why, lost=self.lost)

    def _well(self) -> None:
        if self._problem:
            self._problem = ""
            with contextlib.suppress(OSError):
                _log.info("decisions_kept_again", lost=self.lost)


def _weight(answered: Answered) -> int:
    """What it takes of what may wait: a question that could not even be put has no input; it takes some too."""
    return len(answered.input_json) + _BESIDES_INPUT


def _take_over(folder: Path) -> int:
    """Make the folder; mark what an earlier daemon left open. Returns how many files that were."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        left = [one for one in segments_of(folder) if one.state is State.OPEN]
        for segment in left:
            segment.path.rename(segment.named(State.CUT))
    except OSError as error:
        if error.errno in _FULL:
            return 0
        raise ConfigurationError(
            f"policy.decisions.folder: cannot use {folder}: {error.strerror}",
            reason="decision_log_unusable",
            fix="name a folder that this user can write, or set policy.decisions.enabled to false",
        ) from error
    return len(left)
