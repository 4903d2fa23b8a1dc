"""The one file of the log that is being written: a piece goes in whole, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from orchestrator.policy.decision_log.segments import State, segment_of, segment_path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class SegmentFile:
    """A new file in `folder`, mode 0600. `first_ns` is the time of its first decision, with this number in `run`.

    Raises:
        OSError: each of its members.
    """

    def __init__(self, folder: Path, first_ns: int, run: str, first_number: int) -> None:
        self.path = segment_path(folder, first_ns, run, first_number)
        self.first_ns = first_ns
        self.size = 0
        """Bytes written."""
        self._descriptor = os.open(self.path, _FLAGS, 0o600)

    def append(self, piece: bytes) -> None:
        """Write it; a part that went in before the disk refused is taken out again."""
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            # Else a reader takes the half for the file's end, or skips it as damage.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(piece)

    def complete(self) -> None:
        """Make it durable, and name it as complete; an empty one is taken away."""
        try:
            if not self.size:
                self.path.unlink()
                return
            os.fsync(self._descriptor)
            segment = segment_of(self.path)
            assert segment is not None, "it was named by us"
            self.path.rename(segment.named(State.CLOSED))
        finally:
            os.close(self._descriptor)
