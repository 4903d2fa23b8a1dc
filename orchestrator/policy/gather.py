"""Asks all lookups about one question, within one time-out. What fails is named, and never what it said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from orchestrator.errors import OrchestratorError
from orchestrator.policy.input import is_digest
from orchestrator.policy.lookups import Consent, Facts, Lookups, Question, Verified

_MAX_TEXT = 1000

_log = logging.getLogger(__name__)

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class LookupFailedError(Exception):
    """The text names the lookup, the kind of failure and what to do."""


async def gather(lookups: Lookups, question: Question, timeout_seconds: float) -> Verified:
    """All that is known about the question; the other lookups are told what the one about the artifact answered.

    Raises:
        LookupFailedError: one of them failed, or did not answer in time.
    """
    waiting: set[str] = set()
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _gather(lookups, question, waiting)
    except TimeoutError:
        late = " and ".join(sorted(waiting))
        raise LookupFailedError(f"{late}: no answer within {timeout_seconds:g} s; ask again later") from None


async def _gather(lookups: Lookups, question: Question, waiting: set[str]) -> Verified:
    spec, digest = question.record.offer.spec, question.artifact_digest
    artifact: Facts | None = None
    if is_digest(digest):
        artifact = await _ask("the evidence about the artifact", lookups.artifact, digest, waiting)
    if not question.environment and not spec.secrets:
        return Verified(artifact)
    question = replace(question, artifact=artifact)
    try:
        async with asyncio.TaskGroup() as group:
            consent = source = ticket = secrets = None
            if question.environment:
                consent = group.create_task(_ask("approvals and exceptions", lookups.consent, question, waiting))
                source = group.create_task(_ask("the artifact's source", lookups.source, question, waiting))
                ticket = group.create_task(_ask("the ticket", lookups.ticket, question, waiting))
            if spec.secrets:
                secrets = group.create_task(_ask("the secrets", lookups.secrets, question, waiting))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return Verified(
        artifact,
        consent.result() if consent else Consent(),
        source.result() if source else None,
        ticket.result() if ticket else None,
        secrets.result() if secrets else (),
    )


async def _ask(name: str, lookup: Callable[[_Asked], Awaitable[_Answer]], asked: _Asked, waiting: set[str]) -> _Answer:
    waiting.add(name)
    try:
        answer = await lookup(asked)
    except OrchestratorError as error:
        # Its words are for people, and hold no secret.
        raise LookupFailedError(
            f"{name}: {error} ({error.reason}); {error.fix or 'ask again later'}"[:_MAX_TEXT]
        ) from None
    except Exception as error:  # noqa: BLE001 -- whatever broke in a room of its own, policy answers no
        kind = type(error).__name__
        _log.exception("policy_lookup_failed", extra={"about": name, "error": kind})
        raise LookupFailedError(f"{name}: the lookup failed ({kind}); see the daemon's log") from None
    waiting.discard(name)
    return answer
