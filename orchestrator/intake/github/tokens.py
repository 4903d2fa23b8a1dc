"""The chain of tokens: App JWT → installation token → registration token → admin token of the Actions service."""

from __future__ import annotations

from orchestrator.intake.github.transport import Transport


class TokenChain:
    """Each token is fetched once for all who wait for it, renewed early, and dropped when it is refused."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
