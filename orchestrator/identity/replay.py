"""Remembers which idempotency key a single-use caller token was spent on, for as long as the token counts.

How long that is follows from the constants of verification, so that an accepted token never outlives
its entry here. Entries are written to a file before they count: a restart forgets none.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.private_file import replace_private_file
from orchestrator.to_the_end import to_the_end

MAX_ENTRIES: Final = 200_000
_MAX_FILE_BYTES: Final = 64 << 20


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


class ReplayStore:
    """`path` None keeps entries in memory only (tests, or when no issuer is single-use)."""

    def __init__(self, path: Path | None, now: float, *, max_entries: int = MAX_ENTRIES) -> None:
        """Read the file back and compact it.

        Raises:
            ConfigurationError: `replay_store_unreadable`.
        """
        self._path = path
        self._max_entries = max_entries
        self._spent: dict[str, tuple[str, float]] = {}
        self._lines = 0
        self._writing = asyncio.Lock()
        if path is not None:
            try:
                self._spent = _read(path, now)
                self._compact()
            except OSError as error:
                raise ConfigurationError(
                    f"the record of spent caller tokens cannot be read or written: {error.strerror}",
                    reason="replay_store_unreadable",
                    fix="check permissions and free space of the state folder",
                ) from error

    def __len__(self) -> int:
        return len(self._spent)

    async def spend(self, token_id: str, idempotency_key: str, until: float, now: float) -> bool:
        """Tie the token to this key until `until` (Unix seconds); False when it is tied to another one.

        Raises:
            TryAgainError: `replay_store_full` or `replay_store_unwritable`; the token is then not spent.
        """
        token, key = _digest(token_id), _digest(idempotency_key)
        # One at a time: of two uses with two keys one loses, and nobody relies on an entry not yet on disk.
        async with self._writing:
            known = self._spent.get(token)
            if known is not None and known[1] > now:
                return known[0] == key
            if len(self._spent) >= self._max_entries:
                self._forget(now)
            if len(self._spent) >= self._max_entries:
                raise TryAgainError(
                    "too many caller tokens are in use",
                    reason="replay_store_full",
                    fix="give callers shorter-lived tokens",
                    retry_after_seconds=60,
                )
            self._spent[token] = (key, until)
            if self._path is not None:
                await to_the_end(self._keep(token, key, until))
            return True

    async def _keep(self, token: str, key: str, until: float) -> None:
        try:
            await asyncio.to_thread(self._append, token, key, until)
        except OSError as error:
            self._spent.pop(token, None)
            raise TryAgainError(
                f"the use of a caller token cannot be recorded: {error.strerror}",
                reason="replay_store_unwritable",
                fix="check free space of the state folder",
            ) from error

    def _forget(self, now: float) -> None:
        self._spent = {token: entry for token, entry in self._spent.items() if entry[1] > now}

    def _append(self, token: str, key: str, until: float) -> None:
        if self._lines > 2 * len(self._spent) + 1000:
            self._compact()
            return
        assert self._path is not None
        line = json.dumps([token, key, until]).encode() + b"\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                # What is left of it would spoil the next line too.
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self._lines += 1

    def _compact(self) -> None:
        assert self._path is not None
        entries = [[token, key, until] for token, (key, until) in self._spent.copy().items()]
        replace_private_file(self._path, b"".join(json.dumps(entry).encode() + b"\n" for entry in entries))
        self._lines = len(entries)


def _read(path: Path, now: float) -> dict[str, tuple[str, float]]:
    """
    Raises:
        ConfigurationError: `replay_store_unreadable`, damaged: what is in it may be spent, and nobody knows any more.
    """
    spent: dict[str, tuple[str, float]] = {}
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return spent
    if len(data) > _MAX_FILE_BYTES:
        raise _damaged(path, f"larger than {_MAX_FILE_BYTES} bytes")
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    for number, line in enumerate(lines, 1):
        try:
            token, key, until = json.loads(line)
            if not isinstance(token, str) or not isinstance(key, str):
                raise TypeError
            if float(until) > now:
                spent[token] = (key, float(until))
        except (ValueError, TypeError, RecursionError):
            # The last one may be what a crash left of a write that was never answered for; a start rewrites the file.
            if number == len(lines):
                break
            raise _damaged(path, f"line {number} is not what was written") from None
    return spent


def _damaged(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the record of spent caller tokens {path} is damaged: {why}",
        reason="replay_store_unreadable",
        fix="restore it from a backup; without one remove it once the callers' tokens have expired: till then a spent "
        "one could be used again",
    )
