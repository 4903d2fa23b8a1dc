"""Keys and documents that a command names: read within bounds, refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exits import UsageError

if TYPE_CHECKING:
    from orchestrator.evidence.attestations.keys import PublicKey


def read_file(path: Path, limit: int) -> bytes:
    """The whole file.

    Raises:
        UsageError: it cannot be read, or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path and its permissions") from None
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit} bytes, so it is not what it should be")
    return data


def keys_in(path: Path) -> tuple[PublicKey, ...]:
    """The public keys in a PEM file.

    Raises:
        ConfigurationError, UsageError: see `read_keys` and `read_file`.
    """
    from orchestrator.evidence.attestations.keys import MAX_KEYS_BYTES, read_keys

    return read_keys(read_file(path, MAX_KEYS_BYTES).decode("utf-8", "replace"), str(path))
