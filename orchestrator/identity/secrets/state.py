"""What is kept of one secret: its value if the daemon keeps it, and how far a rotation or its end has come.

One file for each, replaced as a whole, so every crash leaves one state or the next, and each of them can be gone on
from. A state is durable before anybody sees it.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Final

import msgspec

from orchestrator.private_file import damaged, private_folder, read_private_file, write_private_file

MAX_VALUE_BYTES: Final = 64 << 10
MOST_OLD: Final = 4
"""Values that wait to be withdrawn; with so many no new one is made."""
_MAX_FILE_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value. `number` counts the secret's values from 1; `since_ns` is when it became the present one."""

    value: str
    since_ns: int
    number: int

    def __repr__(self) -> str:
        return f"Held(number={self.number}, since_ns={self.since_ns})"


class Making(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rotation that has begun. `proposed` is a value that a hook may take: it is the same however often this rotation
    is gone on with, and was durable before the hook knew it."""

    id: str
    proposed: str
    began_ns: int
    by: str = ""
    at_once: bool = False
    """Withdraw the old value when the new one is there, whoever holds it."""

    def __repr__(self) -> str:
        return f"Making(id={self.id!r}, began_ns={self.began_ns})"


class Failing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What did not succeed when it was last tried, and how often in a row; `step` is *make*, *finish* or *remove*."""

    step: str
    reason: str
    tries: int
    at_ns: int


class Retired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The secret is given to nobody any more. `removed_at_ns` is 0 until it is also gone where it opened something, and
    its values are destroyed here; `left` says in words what could not be destroyed."""

    at_ns: int
    by: str
    removed_at_ns: int = 0
    left: str = ""


class SecretState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`current` is None while the value is that of a file of somebody else's. `old` are values that may still work
    somewhere, oldest first, until they are withdrawn."""

    current: Held | None = None
    old: tuple[Held, ...] = ()
    making: Making | None = None
    failing: Failing | None = None
    retired: Retired | None = None
    number: int = 0
    version: int = 1


_DECODER = msgspec.json.Decoder(SecretState, strict=True)


class StateStore:
    """The states of all secrets in a folder of the daemon's own, and the pipelines that are retired."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ConfigurationError, TryAgainError: as for `private_folder`.
        """
        private_folder(folder)
        self.folder = folder
        self._states: dict[str, SecretState] = {}
        self._pipelines: dict[str, int] | None = None
        self._retiring = threading.Lock()

    def get(self, name: str) -> SecretState:
        """The state, which is an empty one for a secret that never had any.

        Raises:
            ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
            TryAgainError: reason `keys_unavailable`.
        """
        found = self._states.get(name)
        if found is None:
            found = self._states[name] = self._read(name)
        return found

    def put(self, name: str, state: SecretState) -> None:
        """Raises TryAgainError `keys_unavailable`: all is as it was."""
        write_private_file(self.path(name), msgspec.json.encode(state))
        self._states[name] = state

    def path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("no name of a secret")
        return self.folder / f"{name}.json"

    def names(self) -> list[str]:
        """Those that have a state in the folder, registered or not. Empty when it cannot be read."""
        try:
            found = [path.stem for path in self.folder.glob("*.json")]
        except OSError:
            return []
        return sorted(name for name in found if _NAME.fullmatch(name))

    def pipelines(self) -> dict[str, int]:
        """Each retired pipeline to when, in Unix nanoseconds.

        Raises:
            ConfigurationError, TryAgainError: as for `get`.
        """
        if self._pipelines is None:
            data = read_private_file(self._pipelines_file, _MAX_FILE_BYTES)
            try:
                self._pipelines = msgspec.json.decode(data, type=dict[str, int]) if data is not None else {}
            except msgspec.DecodeError:
                raise damaged(self._pipelines_file, "pipelines that were retired may ask again") from None
        return dict(self._pipelines)

    def retire_pipeline(self, pipeline: str, now_ns: int) -> None:
        """Raises TryAgainError `keys_unavailable`: all is as it was."""
        with self._retiring:
            found = {pipeline: now_ns, **self.pipelines()}
            write_private_file(self._pipelines_file, msgspec.json.encode(found))
            self._pipelines = found

    @property
    def _pipelines_file(self) -> Path:
        return self.folder / "retired-pipelines"

    def _read(self, name: str) -> SecretState:
        path = self.path(name)
        data = read_private_file(path, _MAX_FILE_BYTES)
        if data is None:
            return SecretState()
        try:
            return _DECODER.decode(data)
        except msgspec.DecodeError:
            raise damaged(path, "a value that only the daemon has is lost then, and a retired secret is not") from None
