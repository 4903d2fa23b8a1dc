"""A secret that somebody else writes and replaces: read again when the file changes.

Unlike our own keys (`private_file`) such files come from a Kubernetes Secret or a configuration tool: links are
followed and the owner may be another user, but nobody else on the machine should be able to read them.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError

MAX_SECRET_BYTES: Final = 64 << 10


class SecretFile:
    """The present content of a file, without white space around it.

    `what` names it in errors, which never repeat any of its content.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._seen: tuple[int, int, int, int] | None = None
        self._text = ""

    def read(self) -> str:
        """The content. Cheap while the file stays the same.

        Raises:
            TryAgainError: reason `secret_file_unusable`: missing, unreadable, empty, too large, or no text.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                info = os.fstat(file.fileno())
                if not stat.S_ISREG(info.st_mode):
                    raise self._unusable("is no file")
                seen = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_size)
                if seen == self._seen:
                    return self._text
                data = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        if len(data) > MAX_SECRET_BYTES:
            raise self._unusable(f"is larger than {MAX_SECRET_BYTES} bytes")
        try:
            text = data.decode("ascii").strip()
        except UnicodeDecodeError:
            raise self._unusable("is no ASCII text") from None
        if not text:
            raise self._unusable("is empty")
        self._seen, self._text = seen, text
        return text

    def exposed_to(self) -> str:
        """Whom the file's mode lets read it besides its owner and group: a phrase for a warning, or an empty string."""
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except OSError:
            return ""
        return f"every user of this machine (mode {mode:04o})" if mode & 0o004 else ""

    def _unusable(self, why: str) -> TryAgainError:
        return TryAgainError(
            f"{self._what} {self.path} {why}", reason="secret_file_unusable", fix="write the file anew, whole"
        )
