"""What an audited journal is made of: the journal that is wrapped, and the trail that its facts must reach.

Both are protocols, declared here by their consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.journal.port import JournalReader
from orchestrator.model.events import Fact

if TYPE_CHECKING:
    from orchestrator.journal.index import Compaction

R = TypeVar("R")


class KeptJournal(JournalReader, Protocol):
    """A journal as its owner knows it."""

    @property
    def healthy(self) -> bool:
        """Whether it stores facts now, as far as is known."""
        ...

    @property
    def problem(self) -> OrchestratorError | None:
        """Why nothing can be recorded now, with a fix; None while it can, as far as is known."""
        ...

    @property
    def waiting(self) -> int: ...

    @property
    def untold(self) -> int:
        """Facts that are stored and that nobody was told of yet."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the last fact that may be seen, 0 before the first."""
        ...

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]:
        """The facts of all jobs after `seq`, in order: `limit` at most, none at the end."""
        ...

    async def compact(
        self, now_ns: int, retention_ns: int, forget_ns: int, *, exporting: bool = True
    ) -> Compaction: ...

    async def close(self) -> None: ...


class Trail(Protocol[R]):
    """Where facts become records that nobody can take back; most facts are none."""

    @property
    def healthy(self) -> bool:
        """Whether it takes records now. While False it tries by itself to get well."""
        ...

    @property
    def problem(self) -> OrchestratorError | None:
        """Why it takes no records now, with a fix; None while it does."""
        ...

    @property
    def last_seq(self) -> int:
        """The number of the last fact whose records are durable here, 0 before the first."""
        ...

    def recall(self, facts: Sequence[Fact]) -> None:
        """Take note of facts of one job that need no record any more, so that its later ones can be understood."""
        ...

    def records(self, facts: Sequence[Fact]) -> Sequence[R]:
        """The records of facts that were just stored. Called once for each fact, in order of `seq`."""
        ...

    def write(self, records: Sequence[R]) -> asyncio.Future[None]:
        """Make records durable, all in this order. When the future fails none of them is here, and the same call may
        be made again."""
        ...


def unavailable(detail: str) -> TryAgainError:
    return TryAgainError(
        f"the audit log cannot be written: {detail}",
        reason="audit_unavailable",
        fix="see the daemon's log; free space on the file system of the audit folder, and the daemon goes on by itself",
    )
