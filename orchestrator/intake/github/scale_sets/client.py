"""The Actions service: scale sets, message sessions, jobs, runners. Thin: one method for each call, little state.

Errors of every method: `UnavailableError` and `RateLimitedError` (after the retries that are allowed),
`UnauthorizedError`, `ForbiddenError`, `RefusedError`, and those that it names. No lock is held during a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, TypeVar

from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.errors import (
    GitHubError,
    JitConfigLostError,
    NotFoundError,
    RefusedError,
    RunnerGroupUnknownError,
    ScaleSetGoneError,
    UnavailableError,
)
from orchestrator.intake.github.scale_sets import protocol
from orchestrator.intake.github.scale_sets.messages import (
    AcquirableJob,
    JitConfig,
    Message,
    RunnerEntry,
    ScaleSet,
)
from orchestrator.intake.github.scale_sets.protocol import Request
from orchestrator.intake.github.scale_sets.queue_session import QueueSessions
from orchestrator.intake.github.scale_sets.service_answers import (
    parse_acquirable,
    parse_acquired,
    parse_groups,
    parse_jit_config,
    parse_message,
    parse_runners,
    parse_scale_set,
    parse_scale_sets,
)
from orchestrator.intake.github.scale_sets.session import Session
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

DEFAULT_GROUP: Final = "Default"
DEFAULT_GROUP_ID: Final = 1

T = TypeVar("T")


class ActionsClient:
    """One for each configured source."""

    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._tokens = tokens
        self._sessions = QueueSessions(transport, tokens)

    # --- scale sets ---------------------------------------------------------------------------------------------

    async def ensure_scale_set(self, name: str, group: str, labels: Iterable[str]) -> ScaleSet:
        """The scale set of this name in the runner group, made or given the labels if need be. Safe to repeat.

        Labels that the service did not take over are told by `ScaleSet.lacks`. An empty group is the default one, and
        without labels the set's name is its label.

        Raises:
            RunnerGroupUnknownError
        """
        wanted = tuple(labels) or (name,)
        group_id = await self._group_id(group)
        found = await self._find_scale_set(group_id, name)
        if found is None:
            found = await self._create_scale_set(group_id, name, wanted)
        if {label.lower() for label in found.labels} == {label.lower() for label in wanted}:
            return found
        set_id = found.id
        with contextlib.suppress(RefusedError):  # labels may not be changeable there; `lacks` tells
            return await self._admin(
                lambda base: protocol.update_scale_set(base, set_id, group_id, name, wanted), parse_scale_set
            )
        return found

    async def get_scale_set(self, set_id: int) -> ScaleSet:
        """Raises: ScaleSetGoneError."""
        return await self._admin(lambda base: protocol.get_scale_set(base, set_id), parse_scale_set)

    async def delete_scale_set(self, set_id: int) -> None:
        """Nothing happens if it is gone already."""
        with contextlib.suppress(ScaleSetGoneError):
            await self._admin(lambda base: protocol.delete_scale_set(base, set_id), _nothing)

    # --- sessions and messages ----------------------------------------------------------------------------------

    async def create_session(self, set_id: int, owner: str) -> Session:
        """Begin to listen. Not repeated blindly: a lost answer leaves a session that conflicts until it is dropped.

        Raises:
            SessionConflictError: another session is active.
            ScaleSetGoneError
            SessionGoneError: the service made an unusable one, which was deleted again.
        """
        return await self._sessions.create(set_id, owner)

    async def refresh_session(self, session: Session) -> None:
        """Renew the token in place; calls at the same time are one. The other methods call it by themselves.

        Raises:
            SessionGoneError, SessionConflictError, ScaleSetGoneError
        """
        await self._sessions.refresh(session, session.token)

    async def delete_session(self, session: Session) -> None:
        """Stop listening; nothing happens if it is gone already."""
        await self._sessions.delete(session.set_id, session.id)

    async def poll(self, session: Session, last_message_id: int, capacity: int) -> Message | None:
        """Wait for the next message, up to the service's hold time of about 50 s; None when there was none.

        `capacity` is how many jobs the set may hold in all, running ones included. Not repeated here: the caller's
        loop is the retry. A message comes again until it is acknowledged.

        Raises:
            SessionGoneError, SessionConflictError, ScaleSetGoneError
        """
        await self._sessions.renew_early(session)
        held, last = max(0, capacity), max(0, last_message_id)
        return await self._sessions.with_queue(
            session, lambda: protocol.poll(session.queue_url, last, held), _message_of
        )

    async def acknowledge(self, session: Session, message_id: int) -> None:
        """Have the message dropped; nothing happens if it is gone already.

        Raises:
            SessionGoneError, SessionConflictError, ScaleSetGoneError
        """
        # A bare 404 says that there is no such message, or no such session: the next poll tells which.
        with contextlib.suppress(NotFoundError):
            await self._sessions.with_queue(
                session, lambda: protocol.acknowledge(session.queue_url, message_id), _ignored
            )

    async def acquire_jobs(self, session: Session, request_ids: Iterable[int]) -> list[int]:
        """Try to win available jobs (GHES); the ids that were won. Ids of 0, as github.com sends them, are left out.

        Raises:
            SessionGoneError, ScaleSetGoneError
        """
        wanted = [number for number in request_ids if number > 0]
        if not wanted:
            return []
        base = await self._tokens.service_url()
        return await self._sessions.with_queue(
            session, lambda: protocol.acquire_jobs(base, session.set_id, wanted), _of_body(parse_acquired)
        )

    async def acquirable_jobs(self, set_id: int) -> list[AcquirableJob]:
        """Raises: ScaleSetGoneError."""
        return await self._admin(lambda base: protocol.acquirable_jobs(base, set_id), parse_acquirable)

    # --- runners ------------------------------------------------------------------------------------------------

    async def generate_jit(self, set_id: int, name: str, work_folder: str = "") -> JitConfig:
        """Register a single-use runner of the set. Never repeated under the same name once it may have been made.

        Raises:
            RunnerExistsError: the name is taken.
            JitConfigLostError: the answer was lost; what was found of it is removed. Both: take a fresh name.
            ScaleSetGoneError
        """
        try:
            made = await self._admin(
                lambda base: protocol.generate_jit(base, set_id, name, work_folder), parse_jit_config
            )
        except UnavailableError as error:
            if not error.may_have_done("generate_jit"):
                raise
            raise await self._lost(name, error) from error
        return made if made.name else replace(made, name=name)

    async def runner_by_name(self, name: str) -> RunnerEntry | None:
        found = await self._admin(lambda base: protocol.runner_by_name(base, name), parse_runners)
        return next((runner for runner in found if runner.name == name), None)

    async def runners(self) -> list[RunnerEntry]:
        """Every runner of the scope, of all scale sets."""
        return await self._admin(protocol.list_runners, parse_runners)

    async def remove_runner(self, runner_id: int) -> None:
        """Take the registration away; nothing happens if it is gone already.

        Raises:
            BusyError: it has a job.
        """
        with contextlib.suppress(NotFoundError):
            await self._admin(lambda base: protocol.remove_runner(base, runner_id), _nothing)

    # ------------------------------------------------------------------------------------------------------------

    async def _admin(self, make: Callable[[str], Request], parse: Callable[[bytes], T]) -> T:
        return await self._tokens.with_admin(make, _of_body(parse))

    async def _group_id(self, group: str) -> int:
        if group.lower() in ("", DEFAULT_GROUP.lower()):
            return DEFAULT_GROUP_ID
        try:
            groups = await self._admin(lambda base: protocol.find_group(base, group), parse_groups)
        except NotFoundError as error:
            raise RunnerGroupUnknownError(str(error)) from None
        for found in groups:
            if found.name.lower() == group.lower() and found.id > 0:
                return found.id
        raise RunnerGroupUnknownError(f"there is no runner group {group!r} that we may see")

    async def _find_scale_set(self, group_id: int, name: str) -> ScaleSet | None:
        found = await self._admin(lambda base: protocol.find_scale_set(base, group_id, name), parse_scale_sets)
        same = [one for one in found if one.name.lower() == name.lower()]
        if len(same) > 1:
            raise RefusedError(f"GitHub has {len(same)} scale sets {name!r} in one runner group; delete all but one")
        return same[0] if same else None

    async def _create_scale_set(self, group_id: int, name: str, labels: tuple[str, ...]) -> ScaleSet:
        try:
            return await self._admin(
                lambda base: protocol.create_scale_set(base, group_id, name, labels), parse_scale_set
            )
        except (RefusedError, UnavailableError):
            # Another replica was first, or our own answer was lost: then it is there now.
            found = await self._find_scale_set(group_id, name)
            if found is None:
                raise
            return found

    async def _lost(self, name: str, error: UnavailableError) -> JitConfigLostError:
        """Remove what the lost call may have made; what cannot be removed now is left to the sweep."""
        removed = ""
        with contextlib.suppress(GitHubError):
            runner = await self.runner_by_name(name)
            if runner is not None:
                await self.remove_runner(runner.id)
                removed = f"; runner {runner.id}, which it had made, is removed"
        lost = JitConfigLostError(f"{error}{removed}", retry_after_seconds=error.retry_after_seconds)
        lost.call = error.call
        return lost


def _of_body(parse: Callable[[bytes], T]) -> Callable[[Answer], T]:
    return lambda answer: parse(answer.body)


def _message_of(answer: Answer) -> Message | None:
    return None if answer.status != 200 else parse_message(answer.body)


def _nothing(_: bytes) -> None:
    return None


def _ignored(_: Answer) -> None:
    return None
