"""Work on a thread that nobody waits for: not others' work, as for one of a pool, and not the end of the program."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


async def apart(work: Callable[[], T], name: str, ended: Callable[[], None]) -> T:
    """What `work` returns or raises, from a new thread of this name. `ended` is called on the loop when the thread is
    at its end, be it long after who waited has gone: whoever bounds the number of threads counts by it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], what: object) -> None:
        ended()
        if not answer.done():  # else nobody waits any more
            settle(what)

    def run() -> None:
        outcome: tuple[Callable[[Any], None], object]
        try:
            outcome = (answer.set_result, work())
        except Exception as error:  # noqa: BLE001 -- it is raised where somebody waits for the answer
            outcome = (answer.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell, *outcome)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # there can be no more threads
        ended()
        raise
    return await answer
