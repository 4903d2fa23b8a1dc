"""Takes a delivery in: who sent it is proven first, what it tells is on disk before the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.urls import GitHubUrl
from orchestrator.intake.github.webhooks.delivery import JOB_EVENT, check_signature, read_head, read_job
from orchestrator.intake.github.webhooks.inbox import WebhookInbox

_LARGE: Final = 256 << 10
"""From this size on a body is worked on in a thread."""

_log = logging.getLogger(__name__)


class Receipt(StrEnum):
    """What became of a delivery: *known* is a replay or another try, *ignored* is not about a job of this source."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    IGNORED = "ignored"


class WebhookReceiver:
    """Of one source. Nothing here waits for GitHub, so that it is answered within its 10 seconds.

    `secrets` read the webhook's secrets as they are now, each or raising TryAgainError. More than one counts while one
    takes over from another.
    """

    def __init__(
        self, url: GitHubUrl, secrets: Sequence[Callable[[], str]], inbox: WebhookInbox, *, max_body_bytes: int
    ) -> None:
        self._url = url
        self._secrets = tuple(secrets)
        self._inbox = inbox
        self.max_body_bytes = max_body_bytes

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Receipt:
        """One delivery; `headers` ignores case, `body` is what came over the wire.

        Raises:
            WebhookRefusedError: `webhook_signature_missing`, `webhook_signature_invalid`, `webhook_malformed`.
            TryAgainError: `webhook_secret_unreadable`, `webhook_inbox_full`, `webhook_inbox_unwritable`.
        """
        head = read_head(headers)
        secrets = self._present()
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

    def _present(self) -> list[bytes]:
        found, failed = [], None
        for read in self._secrets:
            try:
                found.append(read().encode())
            except TryAgainError as error:
                failed = error
                _log.error("a webhook secret cannot be read: %s", error)
        if found:
            return found
        raise TryAgainError(
            "no secret of this webhook can be read",
            reason="webhook_secret_unreadable",
            fix="each of secret_files must be readable for the daemon and hold a secret",
        ) from failed
