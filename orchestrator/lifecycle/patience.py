"""How long a call to the outside may take: no await of a worker is without an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from types import CoroutineType, coroutine
from typing import Any, TypeVar, cast

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.ports import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Cuts a call off after `limit_ns`. Whether a call that was cut off took effect is not known."""

    clock: Clock
    limit_ns: int

    async def wait(self, call: Awaitable[T], deadline_ns: int | None = None) -> T:
        """The call's answer, within the limit and before `deadline_ns` (Unix time) if that still lies ahead.

        Raises:
            TryAgainError: reason `call_timeout`, the call was cut off; `call_cancelled`, something that it waited
                for was cancelled, which says nothing to whoever called.
        """
        # Most calls answer from memory: they need no timer, and are over before anybody could cancel them.
        begun: Awaitable[T] = call
        if isinstance(call, CoroutineType):
            try:
                begun = _rest(call, call.send(None))
            except StopIteration as end:
                return cast("T", end.value)
            except asyncio.CancelledError:
                raise _cancelled() from None
        return await self._limited(begun, deadline_ns)

    async def _limited(self, call: Awaitable[T], deadline_ns: int | None) -> T:
        left_ns = deadline_ns - self.clock.now_ns() if deadline_ns is not None else 0
        limit_ns = min(self.limit_ns, left_ns) if left_ns > 0 else self.limit_ns
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        cut = False

        def cut_off() -> None:
            nonlocal cut
            cut = True
            task.cancel("call timeout")

        stop = self.clock.call_later(limit_ns / 1e9, cut_off)
        try:
            return await call
        except asyncio.CancelledError:
            if task.cancelling() > cancels + cut:
                raise
            if not cut:
                raise _cancelled() from None
            raise TryAgainError(f"no answer within {limit_ns / 1e9:g} s", reason="call_timeout") from None
        finally:
            stop()
            if cut:
                task.uncancel()


@coroutine
def _rest(call: CoroutineType[Any, Any, T], waits_for: object) -> Generator[object, Any, T]:
    """What is left of a coroutine that was begun by hand and now `waits_for` something of the event loop's."""
    try:
        while True:
            try:
                answer = yield waits_for
            except BaseException as error:  # noqa: BLE001 -- handed on, as `await` does
                waits_for = call.throw(error)
            else:
                waits_for = call.send(answer)
    except StopIteration as end:
        return cast("T", end.value)


def _cancelled() -> TryAgainError:
    return TryAgainError("the call ended without an answer", reason="call_cancelled")
