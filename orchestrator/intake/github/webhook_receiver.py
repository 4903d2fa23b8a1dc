"""Takes a delivery in: who sent it is proven first, what it tells is on disk before the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.urls import GitHubUrl
from orchestrator.intake.github.webhook_inbox import WebhookInbox
from orchestrator.intake.github.webhooks import JOB_EVENT, check_signature, read_head, read_job

MAX_SECRET_BYTES: Final = 4096
_LARGE: Final = 256 << 10
"""From this size on a body is worked on in a thread."""

_log = logging.getLogger(__name__)


class Receipt(StrEnum):
    """What became of a delivery: *known* is a replay or another try, *ignored* is not about a job of this source."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    IGNORED = "ignored"


class SecretFiles:
    """The secrets that count now. A file that was replaced is read again; one that cannot be read counts for none."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        self._read: dict[Path, tuple[tuple[int, int, int], bytes]] = {}

    def present(self) -> tuple[bytes, ...]:
        """At least one secret.

        Raises:
            TryAgainError: `webhook_secret_unreadable`.
        """
        secrets = tuple(secret for secret in map(self._secret, self._paths) if secret)
        if not secrets:
            raise TryAgainError(
                "no secret of this webhook can be read",
                reason="webhook_secret_unreadable",
                fix=f"each of secret_files needs 1 to {MAX_SECRET_BYTES} bytes, readable for the daemon",
            )
        return secrets

    def _secret(self, path: Path) -> bytes:
        try:
            status = path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._read.get(path)
            if known is None or known[0] != version:
                with path.open("rb") as file:
                    data = file.read(MAX_SECRET_BYTES + 1)
                known = self._read[path] = (version, data.strip() if len(data) <= MAX_SECRET_BYTES else b"")
                if not known[1]:
                    _log.error("the webhook secret in %s is empty or longer than %d bytes", path, MAX_SECRET_BYTES)
        except OSError as error:
            _log.error("the webhook secret in %s cannot be read: %s", path, error.strerror)
            return b""
        return known[1]


class WebhookReceiver:
    """Of one source. Nothing here waits for GitHub, so that it is answered within its 10 seconds."""

    def __init__(self, url: GitHubUrl, secrets: SecretFiles, inbox: WebhookInbox, *, max_body_bytes: int) -> None:
        self._url = url
        self._secrets = secrets
        self._inbox = inbox
        self.max_body_bytes = max_body_bytes

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Receipt:
        """One delivery; `headers` ignores case, `body` is what came over the wire.

        Raises:
            WebhookRefusedError: `webhook_signature_missing`, `webhook_signature_invalid`, `webhook_malformed`.
            TryAgainError: `webhook_secret_unreadable`, `webhook_inbox_full`, `webhook_inbox_unwritable`.
        """
        head = read_head(headers)
        secrets = self._secrets.present()
        if len(body) < _LARGE:
            check_signature(body, head.signature, secrets)
        else:
            await asyncio.to_thread(check_signature, body, head.signature, secrets)
        if head.event != JOB_EVENT:
            return Receipt.IGNORED
        parse = asyncio.to_thread(read_job, head, body, self._url) if len(body) >= _LARGE else None
        hint = read_job(head, body, self._url) if parse is None else await parse
        if hint is None:
            return Receipt.IGNORED
        return Receipt.ACCEPTED if await self._inbox.put(hint) else Receipt.KNOWN
