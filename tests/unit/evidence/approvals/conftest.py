"""An office that takes what people sign, at a time that tests step."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.approvals.book import Book, Endorser, Taken
from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.judging import Asked, Limits
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import Predicate, RuleException
from orchestrator.testing.approvals import EVERYBODY, KEYS, START, asked, id_of, signed


async def _agreed(_taken: Taken) -> None:
    return None


@dataclass
class Office:
    """A book, and a clock."""

    book: Book
    now_ns: int = START
    decisions: Any = field(default_factory=lambda: itertools.count(1))

    async def take(self, predicate: Predicate | Envelope, *names: str, endorser: Endorser | None = None) -> Taken:
        envelope = predicate if isinstance(predicate, Envelope) else signed(predicate, *names)
        return await self.book.take(envelope, "test", self.now_ns, _agreed, endorser)

    async def use(self, given: Asked, *predicates: RuleException, stage: str = "admission", audience: str = "") -> Any:
        waived = {id_of(one): one.waives for one in predicates}
        return await self.book.use(given, stage, audience, f"d{next(self.decisions)}", waived, self.now_ns)

    def approvals(self, given: Asked | None = None) -> list[dict[str, Any]]:
        return self.book.ledger.rows(given or asked(), self.now_ns)[0]

    def exceptions(self, given: Asked | None = None) -> list[dict[str, Any]]:
        return self.book.ledger.rows(given or asked(), self.now_ns)[1]

    def why(self, predicate: Predicate, given: Asked | None = None) -> str:
        """The reason why an object does not count; empty when it does."""
        try:
            self.book.ledger.judged(self.book.ledger.objects[id_of(predicate)], given or asked(), self.now_ns)
        except ApprovalRefusedError as refused:
            return refused.reason
        return ""


Opening = Callable[..., Any]


@pytest.fixture
async def opening(tmp_path: Path) -> AsyncIterator[Opening]:
    """Opens the office; again for what a new daemon finds."""
    opened: list[Office] = []

    async def open_(people: People = EVERYBODY, limits: Limits | None = None, now_ns: int = START) -> Office:
        for one in opened:
            one.book.close()
        opened.clear()
        book = await Book.open(tmp_path / "approvals.db", people, limits or Limits(), KEYS["daemon"], now_ns)
        opened.append(Office(book, now_ns))
        return opened[0]

    yield open_
    for one in opened:
        one.book.close()


@pytest.fixture
async def office(opening: Opening) -> Office:
    return await opening()
