"""What a source opens: its clients over one transport and one chain of tokens."""

from __future__ import annotations

import logging

from orchestrator.intake.github.commits.client import CommitClient
from orchestrator.intake.github.connection import GitHubConnection, Timing, TokenCredential
from orchestrator.intake.github.rest.client import RestClient
from orchestrator.intake.github.scale_sets.client import ActionsClient
from orchestrator.intake.github.stats import Stats
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

log = logging.getLogger("orchestrator.intake.github")


class GitHub:
    """One configured GitHub URL, opened. Nothing is sent before the first call; `close` when done."""

    def __init__(self, connection: GitHubConnection, timing: Timing | None = None) -> None:
        self.connection = connection
        if isinstance(connection.credential, TokenCredential):
            log.warning("GitHub %s is used with a personal token; an App can do less and is safer", connection.url.text)
        self._transport = Transport(connection, timing or Timing())
        tokens = TokenChain(self._transport)
        self.actions = ActionsClient(self._transport, tokens)
        self.rest = RestClient(self._transport, tokens)
        self.commits = CommitClient(self._transport, tokens)

    def stats(self) -> Stats:
        """Calls by endpoint and what is left of the rate limits."""
        return self._transport.stats.picture()

    async def close(self) -> None:
        await self._transport.close()
