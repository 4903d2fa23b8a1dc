"""HTTP to GitHub: bounded in time, size and number of calls; proxy, certificates, counters. Knows no meaning."""

from __future__ import annotations

from orchestrator.intake.github.connection import GitHubConnection, Timing
from orchestrator.intake.github.stats import CallStats


class Transport:
    """The connections of one source. `close` when done."""

    def __init__(self, connection: GitHubConnection, timing: Timing) -> None:
        self.connection = connection
        self.timing = timing
        self.stats = CallStats()

    async def close(self) -> None:
        raise NotImplementedError
