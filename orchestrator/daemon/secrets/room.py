"""Registered secrets in the daemon: what policy is told of them, how one comes to a job, rotation and retirement.

Told first, done second: the audit log has each step before it is taken. Values go from the room that keeps them to the
answer of a claim, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.holders import SecretHolders
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.identity.secrets.hook import BUSY
from orchestrator.identity.secrets.registry import Asker, Bar, Registered, Registry, barred
from orchestrator.identity.secrets.rotation import FINISH, MAKE, REMOVE, Rotations
from orchestrator.identity.secrets.state import StateStore
from orchestrator.identity.secrets.value import Value, present
from orchestrator.model.events import Event, SecretDelivered
from orchestrator.model.record import Record
from orchestrator.policy.lookups import Facts, Question

_log = logging.getLogger("orchestrator")

Note = Callable[..., Awaitable[None]]
"""`Engine.note`."""


class SecretsRoom:
    """All registered secrets. `keyed` makes the version that stands for a value wherever it is told of."""

    def __init__(
        self,
        registry: Registry,
        store: StateStore,
        notes: AuditNotes,
        keyed: Callable[[str, str], str],
        now_ns: Callable[[], int],
    ) -> None:
        self.registry = registry
        self.holders = SecretHolders()
        self.store = store
        self._rotations = Rotations(store, now_ns)
        self._notes = notes
        self._keyed = keyed
        self._now_ns = now_ns
        self._woken: dict[str, asyncio.Event] = {}

    # What policy is told.

    async def facts(self, question: Question) -> Sequence[Facts]:
        """`policy.lookups.SecretsLookup`."""
        return await self.facts_of(question.record)

    async def facts_of(self, record: Record) -> list[dict[str, Any]]:
        """One entry for each secret that the job names, known or not."""
        names = record.offer.spec.secrets
        return await asyncio.to_thread(lambda: [self._fact(name, asker(record)) for name in names])

    def _fact(self, name: str, who: Asker) -> dict[str, Any]:
        secret = self.registry.get(name)
        bar, value = self._bar(name, secret, who)
        age = value.age_seconds(self._now_ns()) if value else 0
        limit = int(secret.max_age_seconds) if secret else 0
        return {
            "name": name,
            "owner": secret.owner if secret else "",
            "age_seconds": age,
            "max_age_seconds": limit,
            "overdue": value is None or age > limit,
            "allowed": bar is Bar.NONE,
            "reason": bar.value,
        }

    def _bar(self, name: str, secret: Registered | None, who: Asker) -> tuple[Bar, Value | None]:
        if self.store.get(name).retired is not None:
            return Bar.RETIRED, None
        if secret is None:
            return Bar.UNKNOWN, None
        try:
            value = present(secret, self.store.get(name))
        except TryAgainError:
            return Bar.NO_VALUE, None
        return barred(secret, who, self.store.pipelines()), value

    # What a job gets.

    async def files(self, record: Record, note: Note) -> Mapping[str, str]:
        """The values for a job that has just been bound, by the secrets' names; recorded before they are given out.

        Raises:
            GiveUpError: the job may not have one of them; the reason is that of `registry.Bar`.
            TryAgainError: a value cannot be had now, or its delivery cannot be recorded.
        """
        values: dict[str, Value] = {}
        who = asker(record)
        for name in record.offer.spec.secrets:
            value = values[name] = await self._taken(name, who)
            # From here on no rotation withdraws this value; one that has begun to in the meantime is noticed.
            self.holders.expect(record.id, name, self.version(name, value))
            if (again := await self._taken(name, who)).text != value.text:
                values[name] = again
                self.holders.expect(record.id, name, self.version(name, again))
        now = self._now_ns()
        given: list[Event] = [
            SecretDelivered(name, self.version(name, value), value.age_seconds(now)) for name, value in values.items()
        ]
        try:
            await note(record.id, *given)
        except GiveUpError:
            self.holders.forget(record.id)  # the job is over, and has none of them
            raise
        return {name: value.text for name, value in values.items()}

    async def _taken(self, name: str, who: Asker) -> Value:
        bar, value = await asyncio.to_thread(self._bar, name, self.registry.get(name), who)
        if bar is Bar.NO_VALUE:
            raise TryAgainError(f"the secret {name} has no value that can be read", reason=bar.value)
        if value is None or bar is not Bar.NONE:
            raise GiveUpError(f"the job may not have the secret {name} [{bar.value}]", reason=bar.value)
        return value

    def version(self, name: str, value: Value) -> str:
        """What stands for a value: who has both can tell that they belong together, and nobody else anything."""
        return self._keyed(f"secret {name}", value.text)

    # What changes them.

    def woken(self, name: str) -> asyncio.Event:
        """Set when the secret's turn should not wait: from the start, as what was begun before may have to go on."""
        if name not in self._woken:
            self._woken[name] = asyncio.Event()
            self._woken[name].set()
        return self._woken[name]

    async def rotate(self, name: str, by: str, *, at_once: bool = False) -> None:
        """Have a new value made in the secret's next turn, which is now. The old one is withdrawn once no job holds it;
        with `at_once` as soon as the new one is stored.

        Raises:
            GiveUpError: reason `secret_unknown`, `secret_retired` or `secret_not_rotatable`.
            TryAgainError: as for `Rotations.begin`, or `audit_unavailable`.
        """
        secret = self._known(name)
        state = self._rotations.state(name)
        told: dict[str, Any] = {"number": state.number + 1, "at_once": at_once}
        await self._notes.secret("secret.rotation_begun", name, told, by)
        await self._rotations.begin(secret, by, at_once=at_once)
        self.woken(name).set()

    async def retire(self, name: str, by: str) -> bool:
        """Give the secret to nobody any more; whether it was given until now. In its next turn it is removed where it
        opens something, and its value is destroyed.

        Raises:
            GiveUpError: reason `secret_unknown`.
            TryAgainError: reason `keys_unavailable` or `audit_unavailable`.
        """
        if self._rotations.state(name).retired is not None:
            return False
        if name not in self.store.names():
            self._known(name)
        await self._notes.secret("secret.retired", name, {}, by)
        await self._rotations.retire(name, by)
        if self.registry.get(name) is None:
            await self._remove(name)  # nobody else's turn would come
        self.woken(name).set()
        return True

    async def retire_pipeline(self, pipeline: str, by: str) -> list[str]:
        """Refuse secrets to this pipeline from now on, and retire those that only it used; their names.

        Raises:
            TryAgainError: as for `retire`.
        """
        alone = [one.name for one in self.registry.of_pipeline(pipeline)]
        await self._notes.pipeline_retired(pipeline, alone, by)
        await asyncio.to_thread(self.store.retire_pipeline, pipeline, self._now_ns())
        for name in alone:
            await self.retire(name, by)
        return alone

    async def turn(self, secret: Registered) -> None:
        """Go on with what was begun for a secret, and begin what is due. A failure is told, and tried again later.

        Raises:
            TryAgainError: reason `audit_unavailable`.
        """
        if self._rotations.removable(secret.name):
            await self._remove(secret.name)
            return
        if await asyncio.to_thread(self._rotations.due, secret):
            await self._make(secret)
        if self._rotations.waiting(secret):
            await self._finish(secret)

    async def _make(self, secret: Registered) -> None:
        if self._rotations.state(secret.name).making is None:
            await self.rotate(secret.name, DAEMON)
        making = self._rotations.state(secret.name).making
        assert making is not None, "it was begun"
        try:
            value = await self._rotations.make(secret)
        except OrchestratorError as error:
            await self._failed(secret.name, MAKE, error)
            return
        told: dict[str, Any] = {"number": value.number, "version": self.version(secret.name, value)}
        await self._notes.secret("secret.rotated", secret.name, told, making.by)
        _log.info("a secret has a new value", extra={"secret_name": secret.name, "number": value.number})
        await self._finish(secret, at_once=making.at_once)

    async def _finish(self, secret: Registered, *, at_once: bool = False) -> None:
        """Withdraw old values; a failure is told, and tried again later."""

        def held(value: Value) -> bool:
            return not at_once and self.holders.hold(secret.name, self.version(secret.name, value))

        try:
            done = await self._rotations.finish(secret, held)
        except OrchestratorError as error:
            await self._failed(secret.name, FINISH, error)
            return
        for value in done:
            told: dict[str, Any] = {"number": value.number, "version": self.version(secret.name, value)}
            await self._notes.secret("secret.old_withdrawn", secret.name, told, DAEMON)

    async def _remove(self, name: str) -> None:
        secret = self.registry.get(name)
        try:
            ended = await self._rotations.remove(name, secret)
        except OrchestratorError as error:
            await self._failed(name, REMOVE, error)
            return
        told: dict[str, Any] = {
            "destroyed": [self.version(name, value) for value in ended.destroyed],
            "hook": secret is not None and secret.remove is not None,
            "left": ended.left,
        }
        await self._notes.secret("secret.removed", name, told, DAEMON)
        if ended.left:
            _log.error("a retired secret is not gone everywhere", extra={"secret_name": name, "left": ended.left})

    async def _failed(self, name: str, step: str, error: OrchestratorError) -> None:
        extra = {"secret_name": name, "step": step, "reason": error.reason, "detail": str(error)}
        _log.error("a step of a secret's rotation or end failed; its value is as it was", extra=extra)
        if error.reason == BUSY:
            return  # nothing was tried: the next turn looks again
        await self._notes.secret("secret.failed", name, {"step": step, "reason": error.reason}, DAEMON)

    def _known(self, name: str) -> Registered:
        secret = self.registry.get(name)
        if secret is None:
            raise GiveUpError(
                "No secret of this name is registered.", reason="secret_unknown", fix="see `orchestrator secrets`"
            )
        return secret


def asker(record: Record) -> Asker:
    """What the registry asks of a job: its caller and pool are verified, its pipeline is its own word."""
    caller, spec = record.offer.caller, record.offer.spec
    return Asker(
        caller.issuer, caller.facts.get("repository_id", ""), spec.pool, spec.deployment_environment, spec.pipeline
    )
