"""Performs one action of a step and says what was learnt. Errors become observations, by their family."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.observation import Action, Failure, Observation
from orchestrator.lifecycle.ports import Attester, Backend, JobSource, Policy, Revoker
from orchestrator.lifecycle.provision import runner_spec
from orchestrator.model.events import Event
from orchestrator.model.job import PoolName
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerState, runner_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Performer:
    """The engine's hands. `backends` and `sources` are by name; revokers and attesters are all asked."""

    policy: Policy
    backends: Mapping[str, Backend]
    sources: Mapping[str, JobSource]
    revokers: Sequence[Revoker] = ()
    attesters: Sequence[Attester] = ()

    async def ask(
        self, action: Action, record: Record, seen: Observation, slots: Mapping[PoolName, Slots]
    ) -> Observation:
        """Answer an action that has no side effects outside this process. Never raises."""
        if action is Action.TAKE_SLOT:
            granted = slots[record.offer.spec.pool].take(record.id, record.offer.caller.id)
            return replace(seen, slot=granted)
        assert seen.pool is not None
        return replace(seen, decision=await self.policy.admit(record, seen.pool))

    async def perform(self, action: Action, record: Record, seen: Observation) -> Observation:
        """Perform an action with side effects. Never raises but for cancellation."""
        try:
            seen = await self._perform(action, record, seen)
        except OrchestratorError as error:
            transient = isinstance(error, TryAgainError)
            failure = Failure(transient, error.reason, str(error))
        except Exception:  # noqa: BLE001 -- an adapter's defect is that action's failure
            _log.exception("%s failed for job %s", action.name, record.id)
            failure = Failure(True, "internal_error", "an internal error; see the daemon's log")
        else:
            return replace(seen, failure=None, failures=0) if seen.failures else seen
        return replace(seen, failure=failure, failures=seen.failures + 1)

    async def _perform(self, action: Action, record: Record, seen: Observation) -> Observation:
        match action:
            case Action.CREATE_RUNNER:
                assert seen.pool is not None
                return replace(seen, runner=await self._backend(record).create(runner_spec(record, seen.pool)))
            case Action.LOOK_AT_RUNNER:
                view = await self._backend(record).inspect(runner_name(record.id))
                there = view.state is not RunnerState.ABSENT
                return replace(seen, runner=view, looks=seen.looks + 1 if seen.deleted and there else 0)
            case Action.REVOKE:
                for revoker in self.revokers:
                    await revoker.revoke(record)
                return replace(seen, revoked=True)
            case Action.DELETE_RUNNER:
                await self._backend(record).delete(runner_name(record.id))
                return replace(seen, deleted=True, runner=None)
            case Action.CLOSE:
                return replace(seen, evidence=await self._close(record))
            case Action.ASK_POLICY | Action.TAKE_SLOT:
                raise AssertionError(f"{action.name} is answered under the lock")

    async def _close(self, record: Record) -> tuple[Event, ...]:
        notes: list[Event] = []
        for attester in self.attesters:
            notes.extend(await attester.attest(record))
        source = self.sources.get(record.offer.key.source)
        if source is not None:
            await source.report(record)
        return tuple(notes)

    def _backend(self, record: Record) -> Backend:
        backend = self.backends.get(record.backend)
        if backend is None:
            raise TryAgainError(
                f"backend {record.backend!r} is not configured", reason="backend_unknown", fix="configure it again"
            )
        return backend
