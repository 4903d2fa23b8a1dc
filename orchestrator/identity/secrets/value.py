"""The value of a secret as it is now: the daemon's own, or that of the file it was registered with."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import TryAgainError
from orchestrator.identity.secrets.registry import Registered
from orchestrator.identity.secrets.state import MAX_VALUE_BYTES, SecretState

MIN_VALUE_BYTES = 8
"""Anything shorter could not be masked in a log without masking innocent text."""
SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Value:
    """`since_ns` is its birth: when the daemon stored it, or when its file was written."""

    text: str = field(repr=False)
    since_ns: int
    number: int
    kept: bool
    """By the daemon; else it is a file's."""

    def age_seconds(self, now_ns: int) -> int:
        return max(0, (now_ns - self.since_ns) // SECOND)


def present(secret: Registered, state: SecretState) -> Value:
    """Whatever it is retired or not. Reads a file, for which it may block for a moment.

    Raises:
        TryAgainError: reason `secret_without_value`: no rotation has made one yet, or its file is no good.
    """
    if state.current is not None:
        held = state.current
        return Value(held.value, held.since_ns, held.number, kept=True)
    if secret.file is None:
        raise TryAgainError(
            f"the secret {secret.name} has no value yet",
            reason="secret_without_value",
            fix=f"orchestrator secrets rotate {secret.name}",
        )
    text, written_ns = _read(secret.file, secret.name)
    return Value(text, written_ns, state.number, kept=False)


def fit(value: str) -> str:
    """What is wrong with a value, in words that hold nothing of it; empty when it can be handed out."""
    lines = [line.strip().encode("utf-8", "replace") for line in value.splitlines()]
    if len(value.encode("utf-8", "replace")) > MAX_VALUE_BYTES:
        return f"is larger than {MAX_VALUE_BYTES} bytes"
    if max(map(len, lines), default=0) < MIN_VALUE_BYTES:
        return f"has no line of at least {MIN_VALUE_BYTES} bytes, and so could not be masked in logs"
    return "holds a NUL character" if "\0" in value else ""


def _read(path: Path, name: str) -> tuple[str, int]:
    def unusable(why: str) -> TryAgainError:
        return TryAgainError(
            f"the file of the secret {name}, {path}, {why}",
            reason="secret_without_value",
            fix="write it anew, whole, with mode 0400 and the daemon's user as its owner",
        )

    try:
        # Links are followed: it comes from a Secret's volume, or from a configuration tool.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise unusable("is no file")
            if info.st_mode & 0o007:
                raise unusable(f"is open to every user of this machine (mode {stat.S_IMODE(info.st_mode):04o})")
            data = file.read(MAX_VALUE_BYTES + 1)
    except OSError as error:
        raise unusable(f"cannot be read: {error.strerror}") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise unusable("is no UTF-8 text") from None
    wrong = fit(text)
    if wrong:
        raise unusable(wrong)
    return text, info.st_mtime_ns
