"""Performs one action of a step and says what was learnt. Errors become observations, by their family."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.observation import SECOND, Action, Failure, Observation, learnt
from orchestrator.lifecycle.patience import Patience
from orchestrator.lifecycle.ports import Attester, Backend, JobSource, Policy, Revoker, Sealer
from orchestrator.lifecycle.provision import runner_spec
from orchestrator.model.events import AlarmRaised, Event
from orchestrator.model.job import PoolName
from orchestrator.model.journey import Journey
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerState, RunnerView, runner_name

_log = logging.getLogger(__name__)

_MAX_TEXT = 1000


@dataclass(frozen=True)
class Performer:
    """The engine's hands. `backends` and `sources` are by name; revokers and attesters are all asked, `sealer` last."""

    policy: Policy
    backends: Mapping[str, Backend]
    sources: Mapping[str, JobSource]
    revokers: Sequence[Revoker] = ()
    attesters: Sequence[Attester] = ()
    sealer: Sealer | None = None
    mask: Callable[[str], str] = str
    """Masks secrets in what backends and sources say, before it is recorded: facts outlive what is known of secrets."""
    failed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Actions that failed since the start, by name and reason."""

    def journey(self, record: Record) -> Journey | None:
        """What was seen of the way of the record's runner, without asking anybody."""
        backend = self.backends.get(record.backend) if record.runner is not None else None
        try:
            return backend.journey(runner_name(record.id)) if backend is not None else None
        except Exception:  # noqa: BLE001 -- it is for traces: no job may stand still for it
            _log.exception("the way of job %s's runner cannot be told", record.id)
            return None

    async def ask(
        self,
        action: Action,
        record: Record,
        seen: Observation,
        slots: Mapping[PoolName, Slots],
        patience: Patience,
        deadline_ns: int | None,
    ) -> Observation:
        """Answer an action that has no side effects outside this process.

        Raises:
            TryAgainError: policy, which must always answer, did not.
        """
        if action is Action.TAKE_SLOT:
            granted = slots[record.offer.spec.pool].take(record.id, record.offer.caller.id)
            return learnt(seen, slot=granted)
        assert seen.pool is not None
        return learnt(seen, decision=await patience.wait(self.policy.admit(record, seen.pool), deadline_ns))

    async def perform(
        self, action: Action, record: Record, seen: Observation, patience: Patience, deadline_ns: int | None
    ) -> Observation:
        """Perform an action with side effects. Never raises but for cancellation."""
        try:
            seen = await self._perform(action, record, seen, patience, deadline_ns)
        except Exception as error:  # noqa: BLE001 -- an adapter's defect is that action's failure
            failure = self._failure(error, f"{action.name} for job {record.id}")
            self.failed[action.name.lower(), failure.reason] += 1
            if action is Action.REVOKE:
                return learnt(seen, unrevoked=failure, failures=seen.failures + 1)
            return learnt(seen, failure=failure, failures=seen.failures + 1)
        # What goes well after a failed revocation does not shorten the wait before its next try.
        return learnt(seen, failures=0) if seen.failures and seen.unrevoked is None else seen

    async def _perform(
        self, action: Action, record: Record, seen: Observation, patience: Patience, deadline_ns: int | None
    ) -> Observation:
        match action:
            case Action.CREATE_RUNNER:
                assert seen.pool is not None
                call = self._backend(record).create(runner_spec(record, seen.pool))
                return learnt(seen, runner=self._plain(await patience.wait(call, deadline_ns)))
            case Action.LOOK_AT_RUNNER:
                look = self._backend(record).inspect(runner_name(record.id))
                view = self._plain(await patience.wait(look, deadline_ns))
                there = view.state is not RunnerState.ABSENT
                return learnt(seen, runner=view, looks=seen.looks + 1 if seen.deleted and there else 0)
            case Action.REVOKE:
                await self._revoke(record, patience)
                return learnt(seen, revoked=True)
            case Action.DELETE_RUNNER:
                await patience.wait(self._backend(record).delete(runner_name(record.id)), deadline_ns)
                return learnt(seen, deleted=True, runner=None)
            case Action.CLOSE:
                return learnt(seen, evidence=await self._close(record, seen, patience))
            case Action.ASK_POLICY | Action.TAKE_SLOT:
                raise AssertionError(f"{action.name} is answered under the lock")

    async def _revoke(self, record: Record, patience: Patience) -> None:
        """Ask all of them: one that fails must not keep another from dropping what it holds."""
        if not self.revokers:
            return
        calls = (patience.wait(revoker.revoke(record)) for revoker in self.revokers)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if self.sealer is not None:
            taken = [answer for answer in answers if isinstance(answer, Sequence)]
            self.sealer.withdrawn(record, [one for answer in taken for one in answer])

    async def _close(self, record: Record, seen: Observation, patience: Patience) -> tuple[Event, ...]:
        """Evidence, report and receipt. One that gives up leaves an alarm; one that may do better later is tried again,
        all of them, after each had its turn."""
        notes: list[Event] = []
        waiting: list[Exception] = []
        for attester in self.attesters:
            try:
                notes.extend(await patience.wait(attester.attest(record)))
            except GiveUpError as error:
                notes.append(AlarmRaised("evidence_refused", self._text(f"{error} [{error.reason}]")))
            except Exception as error:  # noqa: BLE001 -- raised below, when the source has had its report
                waiting.append(error)
        source = self.sources.get(record.offer.key.source)
        try:
            if source is not None:
                await patience.wait(source.report(record))
        except GiveUpError as error:
            notes.append(AlarmRaised("report_refused", self._text(f"{error} [{error.reason}]")))
        if waiting:
            raise waiting[0]
        if self.sealer is not None:
            absent_ns = seen.now_ns if record.runner is not None else 0
            try:
                notes.extend(await patience.wait(self.sealer.seal(record, absent_ns, tuple(notes))))
            except GiveUpError as error:
                notes.append(AlarmRaised("receipt_refused", self._text(f"{error} [{error.reason}]")))
        return tuple(notes)

    def _backend(self, record: Record) -> Backend:
        backend = self.backends.get(record.backend)
        if backend is None:
            raise TryAgainError(
                f"backend {record.backend!r} is not configured", reason="backend_unknown", fix="configure it again"
            )
        return backend

    def _failure(self, error: Exception, what: str) -> Failure:
        if isinstance(error, OrchestratorError):
            again = isinstance(error, TryAgainError)
            wish = error.retry_after_seconds if isinstance(error, TryAgainError) else None
            return Failure(again, error.reason, self._text(str(error)), wait_ns=int((wish or 0) * SECOND))
        _log.error("%s failed", what, exc_info=error)
        return Failure(True, "internal_error", "an internal error; see the daemon's log")

    def _plain(self, view: RunnerView) -> RunnerView:
        if view.detail:
            view = replace(view, detail=self._text(view.detail))
        if view.pending is not None and view.pending.detail:
            view = replace(view, pending=replace(view.pending, detail=self._text(view.pending.detail)))
        return view

    def _text(self, text: str) -> str:
        """What an adapter says goes into facts: without secrets, as much as fits one, and nothing that the journal
        cannot carry. It is masked first: a secret that a cut had halved would not be known any more."""
        return self.mask(text)[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
