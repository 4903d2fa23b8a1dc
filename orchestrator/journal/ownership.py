"""One daemon for each journal: an advisory lock that dies with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from orchestrator.errors import ConfigurationError


class Ownership:
    """Holds `<journal>.lock` until `release`; the kernel releases it when the process dies, however it dies.

    The file stays behind on purpose: removing it would let two daemons lock two different files of one name.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, journal: Path) -> Ownership:
        """Become the journal's owner.

        Raises:
            ConfigurationError: reason `journal_in_use`, naming the pid that has it; `journal_unwritable`.
        """
        path = journal.with_name(journal.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the journal's folder {journal.parent} cannot be written: {error.strerror}",
                reason="journal_unwritable",
                fix="create the state folder with mode 0700, owned by the daemon's user",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise ConfigurationError(
                f"another daemon has the journal {journal} open: pid {holder or 'unknown'}",
                reason="journal_in_use",
                fix="stop that daemon, or give this one a state folder of its own",
            ) from error
        # The pid is for people; the lock holds without it on a full disk too.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let the next daemon in. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
