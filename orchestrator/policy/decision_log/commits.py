"""Which commit gave a bundle: the digest of the folder is made from the repository's own objects, commit by commit.

So nobody's word is needed, and a daemon that reads its rules from a volume without any repository is covered as well.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.policy.decision_log.blame import changed_files
from orchestrator.policy.files import MAX_BUNDLE_BYTES, MAX_FILES, belongs, digest_of

MAX_COMMITS: Final = 2000
"""Commits that touch the folder, newest first, among which is looked."""

_TIMEOUT_SECONDS = 60
_MAX_BODY = 4000
_FORMAT = "%H%x00%an <%ae>%x00%aI%x00%cn <%ce>%x00%cI%x00%s"
# A repository's own configuration may name programs; none is started.
_QUIET = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false",
    "-c", "core.quotePath=false",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Commit:
    """Where a bundle came from: the commit that made it so, and in `files` what of the bundle it changed, as of
    `blame.changed_files`. Times are RFC 3339."""

    id: str
    author: str
    authored_at: str
    committer: str
    committed_at: str
    subject: str
    message: str
    files: tuple[str, ...]


class HistoryUnreadableError(GiveUpError):
    reason = "history_unreadable"


class History:
    """The history of a bundle's folder in a git work tree.

    Raises:
        HistoryUnreadableError: from the constructor: there is no git, or the folder lies in no work tree.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bytes] = {}
        self._prefix = self._git("rev-parse", "--show-prefix").decode().strip()

    def find(self, digest: str) -> Commit | None:
        """The commit that gave the bundle with this digest, of the last time that it was so; None if none did.

        Raises:
            HistoryUnreadableError: git fails.
        """
        listing = self._git("log", f"-n{MAX_COMMITS}", f"--format={_FORMAT}", "--", ".")
        found: list[str] | None = None
        for line in listing.decode("utf-8", "replace").splitlines():
            fields = line.split("\0")
            if self._digest(fields[0]) == digest:
                found = fields
            elif found is not None:
                break
        return self._commit(found) if found is not None else None

    def _commit(self, fields: list[str]) -> Commit:
        commit, author, authored, committer, committed, subject = fields[:6]
        message = self._git("show", "-s", "--format=%B", commit).decode("utf-8", "replace").strip()
        return Commit(
            commit, author, authored, committer, committed, subject, message[:_MAX_BODY], self._changed(commit)
        )

    def _changed(self, commit: str) -> tuple[str, ...]:
        parents = self._git("rev-list", "--parents", "-n1", commit).decode().split()[1:]
        return tuple(changed_files(self._tree(parents[0]) if parents else {}, self._tree(commit)))

    def _digest(self, commit: str) -> str:
        """Of the bundle as the commit has it; empty when it is none."""
        tree = self._tree(commit)
        if not tree or len(tree) > MAX_FILES:
            return ""
        self._fetch(set(tree.values()))
        files = {path: self._known[blob] for path, blob in tree.items()}
        return digest_of(files) if sum(len(content) for content in files.values()) <= MAX_BUNDLE_BYTES else ""

    def _tree(self, commit: str) -> Mapping[str, str]:
        """The bundle's files, path to the id of their content."""
        listing = self._git("ls-tree", "-r", "-z", "--full-tree", commit, "--", self._prefix or ".")
        found = {}
        for line in listing.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            told, _, path = line.partition("\t")
            name = path.removeprefix(self._prefix)
            if told.split()[1] == "blob" and belongs(name):
                found[name] = told.split()[2]
        return found

    def _fetch(self, blobs: set[str]) -> None:
        wanted = sorted(blobs - self._known.keys())
        if not wanted:
            return
        answer = self._git("cat-file", "--batch", said="\n".join(wanted).encode() + b"\n")
        at = 0
        for blob in wanted:
            end = answer.index(b"\n", at)
            size = int(answer[at:end].split()[2])
            self._known[blob] = answer[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def _git(self, *words: str, said: bytes = b"") -> bytes:
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                ["git", *_QUIET, "-C", str(self._folder), "--no-pager", *words],
                input=said, capture_output=True, check=False, timeout=_TIMEOUT_SECONDS, env=environment,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HistoryUnreadableError(
                f"git cannot be asked about {self._folder}: {type(error).__name__}",
                fix="install git, or name the bundle's folder in a clone with --repository",
            ) from None
        if done.returncode:
            said_first = done.stderr.decode("utf-8", "replace").strip().splitlines()[:1]
            raise HistoryUnreadableError(
                f"git knows no history of {self._folder}: {''.join(said_first)[:200]}",
                fix="name the bundle's folder in a clone with --repository",
            )
        return done.stdout
