"""One writer for each log: a lock on its folder that ends with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError

_LOCK: Final = "lock"


class Ownership:
    """Held until `release`, or the process ends, whichever way."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, folder: Path) -> Ownership:
        """
        Raises:
            ConfigurationError: reason `audit_in_use` or `audit_unwritable`.
        """
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the audit log in {folder} cannot be opened: {error.strerror}",
                reason="audit_unwritable",
                fix="check free space, owner and permissions of the folder",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigurationError(
                f"the audit log in {folder} is in use by another daemon",
                reason="audit_in_use",
                fix="stop the other daemon, or give this one a state folder of its own",
            ) from None
        return cls(descriptor)

    def release(self) -> None:
        """Idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
