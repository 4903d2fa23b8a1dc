"""Message sessions: made, renewed early and when refused, ended. The queue's token is theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, TypeVar

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.errors import (
    GitHubError,
    ScaleSetGoneError,
    SessionConflictError,
    SessionGoneError,
    UnauthorizedError,
    UnreadableAnswerError,
)
from orchestrator.intake.github.scale_sets import protocol
from orchestrator.intake.github.scale_sets.messages import SessionFacts
from orchestrator.intake.github.scale_sets.protocol import Request, trusted_url
from orchestrator.intake.github.scale_sets.service_answers import parse_session
from orchestrator.intake.github.scale_sets.session import Session
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

EARLY: Final = 600.0
"""Seconds before its end from which on the queue's token is renewed: polls notice an expired one only when they end."""
SPREAD: Final = 30.0
PAUSE: Final = 30.0
"""Seconds after which an early renewal that failed is tried again."""

T = TypeVar("T")


class QueueSessions:
    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._transport = transport
        self._tokens = tokens
        self._timing = transport.timing

    async def create(self, set_id: int, owner: str) -> Session:
        """Raises: SessionConflictError, ScaleSetGoneError, SessionGoneError."""
        facts = await self._tokens.with_admin(lambda base: protocol.create_session(base, set_id, owner), _facts)
        session = Session(facts.id, set_id, owner, facts.statistics, "", "", 0.0)
        try:
            self._take(session, facts)
        except SessionGoneError:
            if facts.id:  # it would conflict with the next one
                with contextlib.suppress(GitHubError):
                    await self.delete(set_id, facts.id)
            raise
        return session

    async def delete(self, set_id: int, session_id: str) -> None:
        """Nothing happens if it is gone already."""
        with contextlib.suppress(SessionGoneError, SessionConflictError, ScaleSetGoneError):
            await self._tokens.with_admin(lambda base: protocol.delete_session(base, set_id, session_id), _ignored)

    async def refresh(self, session: Session, refused: str) -> None:
        """Renew the token, unless it is another one than `refused` by now.

        Raises:
            SessionGoneError, SessionConflictError, ScaleSetGoneError
        """
        async with session.renewing:
            if session.token != refused:
                return
            facts = await self._tokens.with_admin(
                lambda base: protocol.refresh_session(base, session.set_id, session.id), _facts
            )
            if facts.id != session.id:
                raise SessionGoneError("the service answered the renewal of a session with another one")
            self._take(session, facts)
            session.statistics = facts.statistics
            session.generation += 1

    async def renew_early(self, session: Session) -> None:
        """Renew the token if its end is near; while it is good a failure that passes is no trouble."""
        if self._timing.monotonic() < session.fresh_until:
            return
        try:
            await self.refresh(session, session.token)
        except (SessionGoneError, SessionConflictError, ScaleSetGoneError):
            raise
        except TryAgainError:
            session.fresh_until = self._timing.monotonic() + PAUSE

    async def with_queue(self, session: Session, make: Callable[[], Request], parse: Callable[[Answer], T]) -> T:
        """A call with the queue's token; once more with a new one if that is refused."""
        token = session.token
        try:
            return await self._transport.call(make(), f"Bearer {token}", parse)
        except UnauthorizedError:
            await self.refresh(session, token)
        return await self._transport.call(make(), f"Bearer {session.token}", parse)

    def _take(self, session: Session, facts: SessionFacts) -> None:
        if not (facts.id and facts.queue_url and facts.token):
            raise SessionGoneError(
                "the service made a session without a queue: it is in trouble", reason="github_session_unusable"
            )
        try:
            trusted_url(facts.queue_url, encrypted=self._transport.connection.url.encrypted)
        except UnreadableAnswerError as error:
            raise SessionGoneError(str(error), reason="github_session_unusable") from None
        session.queue_url, session.token = facts.queue_url, facts.token
        life = self._tokens.life_of(facts.token)
        early = min(EARLY + SPREAD * self._timing.chance(), life / 2)
        session.fresh_until = self._timing.monotonic() + life - early


def _facts(answer: Answer) -> SessionFacts:
    return parse_session(answer.body)


def _ignored(_: Answer) -> None:
    return None
