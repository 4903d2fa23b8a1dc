"""Where CI platforms tell us of jobs. The sender has no token of ours: the source itself says whom it believes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from orchestrator.errors import TryAgainError
from orchestrator.server import schemas
from orchestrator.server.deps import Limits, WebhookReceiver
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_body, read_query, require_media_type
from orchestrator.server.entrance.problems import ProblemError

ANSWER_SECONDS = 9.0
"""GitHub gives a delivery up after 10 seconds."""
BODY_SECONDS = 7.0
BUDGET_BYTES = 64 << 20
"""Of all bodies that are being read or looked at: whoever has no secret cannot make us hold more."""


class Webhooks:
    """Handler of deliveries, by the source that the path names."""

    def __init__(self, receivers: Mapping[str, WebhookReceiver], limits: Limits) -> None:
        self._receivers = receivers
        self._limits = limits
        self._held = 0

    async def receive(self, request: web.Request) -> web.Response:
        """202 when it is taken in, known or of no interest, always within `ANSWER_SECONDS`."""
        receiver = self._receivers.get(request.match_info["source"])
        if receiver is None:
            raise ProblemError("No source of this name takes webhooks.", reason="not_found")
        read_query(request, schemas.NoQuery)
        require_media_type(request, "application/json")
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            if self._held > BUDGET_BYTES:
                raise TryAgainError("Too much is being received now.", reason="webhook_overload")

        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                body = await read_body(
                    request,
                    limit_bytes=receiver.max_body_bytes,
                    timeout_seconds=min(BODY_SECONDS, self._limits.body_timeout_seconds),
                    hold=hold,
                )
                receipt = await receiver.receive(request.headers, body)
        except TimeoutError:
            raise TryAgainError("This takes too long now.", reason="temporarily_unavailable") from None
        finally:
            self._held -= held
        return json_response({"receipt": receipt}, status=202)
