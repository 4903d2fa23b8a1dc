"""One scale set's message session: the set made when it is missing, the session opened, taken over, and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.errors import SessionConflictError
from orchestrator.intake.github.scale_sets.client import ActionsClient
from orchestrator.intake.github.scale_sets.messages import ScaleSet
from orchestrator.intake.github.scale_sets.session import Session
from orchestrator.intake.github.source_config import ScaleSetConfig, SessionNotes
from orchestrator.intake.github.tally import Tally

_log = logging.getLogger(__name__)


class SetSession:
    """At most one session is open. `lacking` are labels that the service did not take over."""

    def __init__(
        self, client: ActionsClient, config: ScaleSetConfig, owner: str, notes: SessionNotes, tally: Tally
    ) -> None:
        self._client = client
        self._config = config
        self._owner = owner
        self._notes = notes
        self._tally = tally
        self._found = asyncio.Event()
        self._creating: asyncio.Future[Session] | None = None
        self.scale_set: ScaleSet | None = None
        self.session: Session | None = None
        self.lacking: tuple[str, ...] = ()

    async def open(self) -> Session:
        """A new session of the set, in place of the one that we had.

        Raises:
            SessionConflictError: somebody else listens; our own former session was ended, if there was one.
            TryAgainError, GiveUpError: as the client's.
        """
        self.session = None
        config = self._config
        found = await self._client.ensure_scale_set(config.name, config.group, config.labels)
        self.scale_set = found
        self._found.set()
        self._see_labels(found)
        try:
            session = await self._create(found)
        except SessionConflictError:
            self._tally.conflicts += 1
            if not await self._end_former(found):
                raise
            session = await self._create(found)
        self._notes.write(config.key, session.id)
        self._tally.sessions += 1
        self.session = session
        return session

    async def _create(self, found: ScaleSet) -> Session:
        """Who is told to stop meanwhile leaves what comes of it to `close`: nobody else knows of that session, and it
        would keep the next daemon out until the service drops it."""
        self._creating = asyncio.ensure_future(self._client.create_session(found.id, self._owner))
        session = await asyncio.shield(self._creating)
        self._creating = None
        return session

    async def known(self, limit_seconds: float) -> ScaleSet | None:
        """The set as it was found last; just after the start one waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await self._found.wait()
        return self.scale_set

    async def close(self, limit_seconds: float) -> None:
        """End the session, so that whoever comes next need not wait. Never raises but for cancellation."""
        session, self.session = self.session, None
        creating, self._creating = self._creating, None
        try:
            async with asyncio.timeout(limit_seconds):
                if session is None and creating is not None:
                    with contextlib.suppress(OrchestratorError):  # then there is none
                        session = await creating
                        self._notes.write(self._config.key, session.id)  # for the next daemon, if we cannot end it
                if session is None:
                    return
                await self._client.delete_session(session)
        except (OrchestratorError, TimeoutError) as error:
            _log.warning("the session of scale set %s was not ended: %s", self._config.key, error)
        else:
            self._notes.write(self._config.key, "")

    async def _end_former(self, found: ScaleSet) -> bool:
        """Whether there was a session of our own, by our notes, that is ended now. Another's is left alone."""
        noted = self._notes.read(self._config.key)
        if not noted:
            return False
        former = Session(
            id=noted, set_id=found.id, owner=self._owner, statistics=None, queue_url="", token="", fresh_until=0.0
        )
        await self._client.delete_session(former)
        self._notes.write(self._config.key, "")
        self._tally.takeovers += 1
        _log.info("ended our own former session of scale set %s", self._config.key)
        return True

    def _see_labels(self, found: ScaleSet) -> None:
        lacking = found.lacks(self._config.labels)
        if lacking and lacking != self.lacking:
            _log.warning("scale set %s was not given the labels %s", self._config.key, ", ".join(lacking))
        self.lacking = lacking
