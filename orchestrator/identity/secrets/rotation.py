"""How a secret gets a new value, loses the old one, and ends: in steps, each durable before the next begins.

*make*: the hook has a new value made, the old one goes on working. *finish*: nobody holds the old one any more, and the
hook takes it away. *remove*: the secret is retired, and the hook takes the present one away. After a crash each step is
gone on with from what is stored; a hook may see one step twice, with the same rotation id and the same proposal.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity.secrets.hook import BUSY, run_hook
from orchestrator.identity.secrets.registry import Hook, Registered
from orchestrator.identity.secrets.state import MOST_OLD, Failing, Held, Making, Retired, SecretState, StateStore
from orchestrator.identity.secrets.value import SECOND, Value, fit, present
from orchestrator.to_the_end import to_the_end

_PROPOSED_BYTES: Final = 32
FIRST_PAUSE, LONGEST_PAUSE = 30, 3600
"""Seconds until a step that failed is tried again by itself."""

MAKE, FINISH, REMOVE = "make", "finish", "remove"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a retired secret: the values that were destroyed, and what could not be, in words."""

    destroyed: tuple[Value, ...]
    left: str


class Rotations:
    """All changes of secrets, one at a time for each. `now_ns` is Unix time."""

    def __init__(self, store: StateStore, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._now_ns = now_ns
        self._locks: dict[str, asyncio.Lock] = {}

    def state(self, name: str) -> SecretState:
        """See `StateStore.get`."""
        return self._store.get(name)

    def due(self, secret: Registered) -> bool:
        """Whether a new value is to be made now: one was begun, or the present one has the age for it."""
        state = self._store.get(secret.name)
        if state.retired is not None or secret.rotate is None or self._pausing(state, MAKE):
            return False
        if state.making is not None:
            return True
        if secret.rotate_seconds is None or len(state.old) >= MOST_OLD:
            return False
        try:
            value = present(secret, state)
        except TryAgainError:
            return secret.file is None  # one whose file cannot be read is for its owner to mend
        return value.age_seconds(self._now_ns()) >= secret.rotate_seconds

    async def begin(self, secret: Registered, by: str, *, at_once: bool = False) -> Making:
        """Have a rotation stored as begun; one that was begun before stands.

        Raises:
            GiveUpError: reason `secret_retired`, or `secret_not_rotatable`.
            TryAgainError: reason `secret_old_in_use` (too many old values wait for their end) or `keys_unavailable`.
        """
        async with self._alone(secret.name):
            state = self._store.get(secret.name)
            if state.retired is not None:
                raise GiveUpError(f"the secret {secret.name} is retired", reason="secret_retired")
            if secret.rotate is None:
                raise GiveUpError(
                    f"the daemon cannot rotate the secret {secret.name}",
                    reason="secret_not_rotatable",
                    fix="give it `rotate` in the settings, or replace its file",
                )
            if state.making is not None:
                making = replace(state.making, at_once=state.making.at_once or at_once)
                await self._put(secret.name, replace(state, making=making, failing=None))
                return making
            if len(state.old) >= MOST_OLD:
                raise TryAgainError(
                    f"{len(state.old)} old values of the secret {secret.name} are not withdrawn yet",
                    reason="secret_old_in_use",
                    fix="wait for the jobs that hold them, or see why its hook fails",
                )
            making = Making(secrets.token_hex(16), secrets.token_urlsafe(_PROPOSED_BYTES), self._now_ns(), by, at_once)
            # A failure of an earlier try must not put off what somebody asks for now.
            await self._put(secret.name, replace(state, making=making, failing=None))
            return making

    async def make(self, secret: Registered) -> Value:
        """Go on with the rotation that was begun; the new value is stored, and given out, when this returns.

        Raises:
            TryAgainError: reason `secret_hook_failed`, `secret_hook_busy`, `secret_value_unfit` or `keys_unavailable`:
                the old value stands.
        """
        async with self._alone(secret.name):
            state = self._store.get(secret.name)
            assert state.making is not None, "begin comes first"
            assert secret.rotate is not None, "begin looks for it"
            before = await self._before(secret, state)
            async with self._counted(secret.name, MAKE):
                given = {"rotation": state.making.id, "current": before.text if before else None}
                given["proposed"] = state.making.proposed
                printed = await run_hook(secret.rotate, self._store.folder, secret.name, MAKE, given)
                text = _line(printed) or state.making.proposed
                wrong = fit(text)
                if wrong:
                    raise TryAgainError(f"the value that the hook printed {wrong}", reason="secret_value_unfit")
                number, now = state.number + 1, self._now_ns()
                old = (*state.old, Held(before.text, before.since_ns, before.number)) if before else state.old
                held = Held(text, now, number)
                await self._put(
                    secret.name,
                    replace(state, current=held, old=old, making=None, failing=None, number=number),
                )
            return Value(text, now, number, kept=True)

    async def finish(self, secret: Registered, held_by_jobs: Callable[[Value], bool]) -> list[Value]:
        """Have old values withdrawn that no job holds any more; what was.

        Raises:
            TryAgainError: as for `make`; those before it are withdrawn.
        """
        done: list[Value] = []
        async with self._alone(secret.name):
            state = self._store.get(secret.name)
            for old in state.old:
                value = _value(old)
                if state.retired is not None or held_by_jobs(value):
                    continue
                await self._withdraw(secret, old)
                done.append(value)
        return done

    def waiting(self, secret: Registered) -> bool:
        """Whether old values could be withdrawn now, if no job holds them."""
        state = self._store.get(secret.name)
        return bool(state.old) and state.retired is None and not self._pausing(state, FINISH)

    async def _withdraw(self, secret: Registered, old: Held) -> None:
        state = self._store.get(secret.name)
        async with self._counted(secret.name, FINISH):
            if secret.rotate is not None:
                given = {"old": old.value, "current": state.current.value if state.current else None}
                await run_hook(secret.rotate, self._store.folder, secret.name, FINISH, given)
            rest = tuple(one for one in state.old if one.number != old.number)
            await self._put(secret.name, replace(state, old=rest, failing=None))

    async def retire(self, name: str, by: str) -> bool:
        """From now on nobody gets it; whether that is new.

        Raises:
            TryAgainError: reason `keys_unavailable`.
        """
        async with self._alone(name):
            state = self._store.get(name)
            if state.retired is not None:
                return False
            retired = Retired(self._now_ns(), by)
            await self._put(name, replace(state, retired=retired, making=None, failing=None))
            return True

    def removable(self, name: str) -> bool:
        """Whether it is retired and its end is still to be brought about, now."""
        state = self._store.get(name)
        return state.retired is not None and not state.retired.removed_at_ns and not self._pausing(state, REMOVE)

    async def remove(self, name: str, secret: Registered | None) -> Ended:
        """Have a retired secret taken away where it opens something, then destroy its values here. `secret` is None
        when it is not registered any more.

        Raises:
            TryAgainError: as for `make`; it stays retired, and its values are kept for the hook.
        """
        async with self._alone(name):
            state = self._store.get(name)
            assert state.retired is not None, "retire comes first"
            values = [_value(old) for old in state.old]
            now = await self._before(secret, state) if secret else None
            values += [now] if now else [_value(state.current)] if state.current else []
            async with self._counted(name, REMOVE):
                await self._taken_away(name, secret.remove if secret else None, values)
                left = await asyncio.to_thread(_destroy_file, secret) if secret else "no hook: not registered any more"
                retired = replace(state.retired, removed_at_ns=self._now_ns(), left=left)
                await self._put(name, SecretState(retired=retired, number=state.number))
            return Ended(tuple(values), left)

    async def _taken_away(self, name: str, hook: Hook | None, values: list[Value]) -> None:
        """Each value by itself; once without any where none can be had."""
        texts: list[str | None] = [value.text for value in values]
        for text in texts or [None]:
            if hook is not None:
                await run_hook(hook, self._store.folder, name, REMOVE, {"current": text})

    async def _before(self, secret: Registered, state: SecretState) -> Value | None:
        """The present value, if there is any: a rotation may be there to make the first one."""
        try:
            return await asyncio.to_thread(present, secret, state)
        except TryAgainError:
            return None

    def _pausing(self, state: SecretState, step: str) -> bool:
        failing = state.failing
        if failing is None or failing.step != step:
            return False
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failing.tries - 1, 20))
        return self._now_ns() < failing.at_ns + int(pause) * SECOND

    @contextlib.asynccontextmanager
    async def _counted(self, name: str, step: str) -> AsyncIterator[None]:
        """Remember a failure of this step, so that it is tried again later and seen meanwhile."""
        try:
            yield
        except OrchestratorError as error:
            if error.reason == BUSY:
                raise  # nothing was tried
            state = self._store.get(name)
            before = state.failing
            tries = before.tries + 1 if before is not None and before.step == step else 1
            with contextlib.suppress(TryAgainError):  # the disk is full: what failed is told all the same
                await self._put(name, replace(state, failing=Failing(step, error.reason, tries, self._now_ns())))
            raise

    async def _put(self, name: str, state: SecretState) -> None:
        # Who gave up waiting for one state must not have another written before it.
        await to_the_end(asyncio.to_thread(self._store.put, name, state))

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(name, asyncio.Lock()):
            yield


def _value(held: Held) -> Value:
    return Value(held.value, held.since_ns, held.number, kept=True)


def _line(printed: str) -> str:
    """One line loses its end; more than one is a document, such as a key, and stays as it is."""
    return printed.rstrip("\r\n") if printed.count("\n") <= 1 else printed


def _destroy_file(secret: Registered) -> str:
    """Take the registered file away; what is left, in words."""
    if secret.file is None:
        return ""
    try:
        secret.file.unlink(missing_ok=True)
    except OSError as error:
        return f"{secret.file} cannot be removed: {error.strerror}"
    return ""
