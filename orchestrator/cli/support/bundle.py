"""The bundle itself: documents by name, cleaned and bounded, then one private file with a list of what is in it."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.cli.exits import CommandError
from orchestrator.cli.support.cleaning import Cleaner
from orchestrator.errors import OrchestratorError
from orchestrator.private_file import create_private_file

MAX_DOCUMENT_BYTES = 4 << 20
MAX_BUNDLE_BYTES = 32 << 20
"""Of all documents before they are packed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One document of a bundle. `what` says what it is; `cut` that it is not whole; empty ones say in `missing` why."""

    name: str
    what: str
    bytes: int = 0
    sha256: str = ""
    cut: bool = False
    missing: str = ""


class Bundle:
    """Collects documents. One that cannot be had is listed with the reason, and stops none of the others."""

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner
        self._contents: dict[str, bytes] = {}
        self._left = MAX_BUNDLE_BYTES
        self.entries: list[Entry] = []

    def add_json(self, name: str, what: str, make: Callable[[], Any]) -> None:
        self._add(name, what, lambda: json.dumps(self._cleaner.document(make()), indent=1) + "\n")

    def add_lines(self, name: str, what: str, make: Callable[[], Sequence[Any]]) -> None:
        """One JSON document a line; of too many the last are kept."""

        def lines() -> str:
            rows = [json.dumps(self._cleaner.document(row)) for row in make()]
            return "".join(f"{row}\n" for row in _newest(rows))

        self._add(name, what, lines)

    def add_text(self, name: str, what: str, make: Callable[[], str]) -> None:
        """Of a text that is too long the beginning is kept."""
        self._add(name, what, lambda: self._cleaner.text(_whole_lines(make())))

    def _add(self, name: str, what: str, make: Callable[[], str]) -> None:
        try:
            content = make().encode("utf-8", "replace")
        except OrchestratorError as error:
            self._missing(name, what, f"{error} [{error.reason}]")
            return
        except Exception as error:  # noqa: BLE001 -- what is broken is what a bundle is made for
            # The text of such an error may quote what it stumbled over.
            self._missing(name, what, f"{type(error).__name__} while it was made")
            return
        if self._cleaner.finds(content):
            self._missing(name, what, "something secret was still in it")
            return
        limit = min(MAX_DOCUMENT_BYTES, self._left)
        kept = content[:limit]
        if not kept and content:
            self._missing(name, what, "the bundle is as large as it may be")
            return
        self._left -= len(kept)
        self._contents[name] = kept
        digest = hashlib.sha256(kept).hexdigest()
        self.entries.append(Entry(name, what, len(kept), digest, cut=len(kept) < len(content)))

    def _missing(self, name: str, what: str, why: str) -> None:
        self.entries.append(Entry(name, what, missing=self._cleaner.text(why)))

    def write(self, path: Path, read_me: str) -> None:
        """Make the file, readable by this user only; it must not be there.

        Raises:
            CommandError: it is there, or cannot be written; nothing is left half made.
        """
        listing = json.dumps([asdict(entry) for entry in self.entries], indent=1) + "\n"
        files = {"README.txt": read_me.encode(), "contents.json": listing.encode(), **self._contents}
        packed = _packed(files, path.name.removesuffix(".gz").removesuffix(".tar") or "bundle")
        try:
            create_private_file(path, packed)
        except FileExistsError:
            raise CommandError(f"{path} is there already", fix="name another file with --output") from None
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fix = "free some space" if full else "see whether its folder is there and this user may write into it"
            fix = f"{fix}, or write it elsewhere with --output"
            raise CommandError(f"{path} cannot be written: {error.strerror}", fix=fix) from None


def _whole_lines(text: str) -> str:
    """As many as a document can hold, and one more to be cut: half a line could end in half a secret."""
    if len(text) <= MAX_DOCUMENT_BYTES:
        return text
    end = text.find("\n", MAX_DOCUMENT_BYTES)
    return text if end < 0 else text[:end]


def _newest(rows: list[str]) -> list[str]:
    size, at = 0, len(rows)
    while at and size + len(rows[at - 1]) < MAX_DOCUMENT_BYTES:
        at -= 1
        size += len(rows[at]) + 1
    return rows[at:]


def _packed(files: dict[str, bytes], folder: str) -> bytes:
    made = io.BytesIO()
    now = int(time.time())
    with gzip.GzipFile(fileobj=made, mode="wb", mtime=now) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), now, 0o600
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()
