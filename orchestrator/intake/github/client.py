"""The Actions service: scale sets, message sessions, jobs, runners. Thin: one method for each call, little state.

Errors of every method: `UnavailableError` and `RateLimitedError` (after the retries that are allowed),
`UnauthorizedError`, `ForbiddenError`, `RefusedError`, and those that it names. No lock is held during a call.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.intake.github.messages import AcquirableJob, JitConfig, Message, RunnerEntry, ScaleSet
from orchestrator.intake.github.session import Session
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

DEFAULT_GROUP = "Default"


class ActionsClient:
    """One for each configured source."""

    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._transport = transport
        self._tokens = tokens

    async def ensure_scale_set(self, name: str, group: str, labels: Iterable[str]) -> ScaleSet:
        """The scale set of this name in the runner group, made or given the labels if need be. Safe to repeat.

        Labels that the service did not take over are told by `ScaleSet.lacks`. An empty group is the default one.

        Raises:
            RunnerGroupUnknownError
        """
        raise NotImplementedError

    async def get_scale_set(self, set_id: int) -> ScaleSet:
        """Raises: ScaleSetGoneError."""
        raise NotImplementedError

    async def delete_scale_set(self, set_id: int) -> None:
        """Nothing happens if it is gone already."""
        raise NotImplementedError

    async def create_session(self, set_id: int, owner: str) -> Session:
        """Begin to listen. Not repeated blindly: a lost answer leaves a session that conflicts until it is dropped.

        Raises:
            SessionConflictError: another session is active.
            ScaleSetGoneError
            SessionGoneError: the service made an unusable one, which was deleted again.
        """
        raise NotImplementedError

    async def refresh_session(self, session: Session) -> None:
        """Renew the token in place; calls at the same time are one. The other methods call it by themselves.

        Raises:
            SessionGoneError, ScaleSetGoneError
        """
        raise NotImplementedError

    async def delete_session(self, session: Session) -> None:
        """Stop listening; nothing happens if it is gone already."""
        raise NotImplementedError

    async def poll(self, session: Session, last_message_id: int, capacity: int) -> Message | None:
        """Wait for the next message, up to the service's hold time of about 50 s; None when there was none.

        `capacity` is how many jobs the set may hold in all, running ones included. Not repeated here: the caller's
        loop is the retry. A message comes again until it is acknowledged.

        Raises:
            SessionGoneError, SessionConflictError, ScaleSetGoneError
        """
        raise NotImplementedError

    async def acknowledge(self, session: Session, message_id: int) -> None:
        """Have the message dropped; nothing happens if it is gone already.

        Raises:
            SessionGoneError, ScaleSetGoneError
        """
        raise NotImplementedError

    async def acquire_jobs(self, session: Session, request_ids: Iterable[int]) -> list[int]:
        """Try to win available jobs (GHES); the ids that were won. Ids of 0, as github.com sends them, are left out.

        Raises:
            SessionGoneError, ScaleSetGoneError
        """
        raise NotImplementedError

    async def acquirable_jobs(self, set_id: int) -> list[AcquirableJob]:
        """Raises: ScaleSetGoneError."""
        raise NotImplementedError

    async def generate_jit(self, set_id: int, name: str, work_folder: str = "") -> JitConfig:
        """Register a single-use runner of the set. Never repeated under the same name once it may have been made.

        Raises:
            RunnerExistsError: the name is taken.
            JitConfigLostError: the answer was lost; what was found of it is removed. Both: take a fresh name.
            ScaleSetGoneError
        """
        raise NotImplementedError

    async def runner_by_name(self, name: str) -> RunnerEntry | None:
        raise NotImplementedError

    async def runners(self) -> list[RunnerEntry]:
        """Every runner of the scope, of all scale sets."""
        raise NotImplementedError

    async def remove_runner(self, runner_id: int) -> None:
        """Take the registration away; nothing happens if it is gone already.

        Raises:
            BusyError: it has a job.
        """
        raise NotImplementedError
