"""What a starting point was written from, and how each of its files has fared since: yours, ours, both, or neither."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from orchestrator import __version__
from orchestrator.cli.exits import CommandError
from orchestrator.cli.starting_point.files import TEMPLATE, Backend, Choices, Platform, StartingFile

STAMP: Final = ".orchestrator-init.json"
_MAX_BYTES: Final = 1 << 20


class Standing(StrEnum):
    """`STALE`: as it was written, and the starting point has another one now. `BOTH`: you have changed it, and so has
    the starting point. `NEW`: the starting point has it, and this folder never had. `GONE`: you took it away."""

    CURRENT = "current"
    YOURS = "yours"
    STALE = "stale"
    BOTH = "both"
    NEW = "new"
    GONE = "gone"


NEEDS_A_LOOK: Final = (Standing.STALE, Standing.BOTH, Standing.NEW)


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stamp as JSON. `files` are SHA-256 in hex of what was written."""

    template: int
    program: str
    backend: Backend
    ci: tuple[Platform, ...]
    url: str
    files: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]


@dataclass(frozen=True, slots=True)
class Stamp:
    """`digests` are those of the files as they were last written by us."""

    choices: Choices
    digests: Mapping[str, str]
    template: int = TEMPLATE
    program: str = __version__

    def encode(self) -> bytes:
        chosen = self.choices
        written = _Written(
            self.template,
            self.program,
            chosen.backend,
            chosen.platforms,
            chosen.url,
            dict(sorted(self.digests.items())),
        )
        return msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n"


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_stamp(folder: Path) -> Stamp:
    """The stamp of a folder.

    Raises:
        CommandError: there is none, or it is damaged.
    """
    path = folder / STAMP
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        found = msgspec.json.decode(content, type=_Written, strict=True)
    except FileNotFoundError:
        raise CommandError(
            f"{folder} has no {STAMP}: it was not written by init", fix="name a folder that was"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise CommandError(f"{path} cannot be used: {error}", fix="take it from git again") from None
    return Stamp(Choices(found.backend, found.ci, found.url), found.files, found.template, found.program)


def standing(folder: Path, stamp: Stamp, now: Mapping[str, StartingFile]) -> dict[str, Standing]:
    """Of each file of the starting point as it is now, sorted by path.

    Raises:
        CommandError: a file cannot be read.
    """
    return {
        name: _of(_read(folder / name), stamp.digests.get(name), digest_of(now[name].content)) for name in sorted(now)
    }


def _of(here: str | None, written: str | None, wanted: str) -> Standing:
    if here == wanted:
        return Standing.CURRENT
    if here is None:
        return Standing.GONE if written is not None else Standing.NEW
    if written == wanted:
        return Standing.YOURS
    return Standing.STALE if here == written else Standing.BOTH


def _read(path: Path) -> str | None:
    """The digest of a file; None where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", fix="check its permissions") from None
