"""Opens what accounts for secrets, credentials and scores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.identity import Identity
from orchestrator.daemon.records.audit import Audit
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.desk import SecretDesk
from orchestrator.daemon.secrets.inventory import Sources
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.daemon.secrets.scorecard import Books
from orchestrator.daemon.secrets.scores import ArtifactLookup, ScoreKeeper
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.settings import Settings
from orchestrator.telemetry.scores.collector import Measured


@dataclass
class Accounts:
    """`desk` is for who asks about secrets, `books` for who asks about everything, `keeper` counts; `latest` are the
    four metrics as of the last turn."""

    desk: SecretDesk
    keeper: ScoreKeeper
    books: Books
    latest: Measured

    async def upkeep(self) -> None:
        """Look up and store what was counted, and measure anew."""
        await self.keeper.upkeep()
        self.latest = await self.books.measure()


async def open_accounts(
    settings: Settings,
    secrets: SecretsRoom,
    identity: Identity,
    artifact: ArtifactLookup,
    engine: BundleHolder | OpaServerEngine,
    audit: Audit | None,
    now_ns: Callable[[], int],
    stack: AsyncExitStack,
) -> Accounts:
    """
    Raises:
        ConfigurationError, TryAgainError: the counts of before cannot be read.
    """
    keeper = ScoreKeeper.open(settings.state_dir / "scores.json", artifact, now_ns())
    push_closing(stack, "scores", keeper.upkeep)
    desk = SecretDesk(secrets, keeper.tally, AuditNotes(audit), now_ns)
    found = Sources(settings, identity.issuers, identity.trust, desk, keeper.tally, now_ns)
    books = Books(found, keeper, engine, audit)
    return Accounts(desk, keeper, books, await books.measure())
