"""A stop that does not end: what it still waits for is told, and then the process goes.

Every wait of a stop has its own bound. This is for those that have none by a mistake, ours or a library's: whoever
stops us, be it systemd, a cluster or an upgrade's next daemon, must not wait for ever, and whoever looks into it later
must find the reason. Going at once is safe at any moment: the next daemon finds what a kill leaves.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

_log = logging.getLogger("orchestrator")

TELL_SECONDS: Final = 15.0
"""A stop that has nothing left to drain takes less than a second."""
GO_SECONDS: Final = 60.0
"""More than `closing.CLOSING_SECONDS`: one room that hangs is left behind, and the others are closed."""
AGAIN_SECONDS: Final = 1.0
THREADS_SECONDS: Final = 3.0
"""Long enough for a write that nobody waits for any more, as of a page's session."""
_MOST_TASKS: Final = 50
_DEEPEST: Final = 12


def expect_the_end(tell_seconds: float = TELL_SECONDS, go_seconds: float = GO_SECONDS) -> None:
    """To be called when nothing is left to do but to close: what still runs `tell_seconds` later is logged, and after
    `go_seconds` all threads are shown on standard error and the process ends with exit code 1. The latter needs neither
    the event loop nor the interpreter to be well."""
    asyncio.get_running_loop().call_later(tell_seconds, _tell, tell_seconds)
    where = sys.__stderr__ or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 -- kept to the end
    faulthandler.dump_traceback_later(go_seconds, exit=True, file=where)


async def until_ended(tasks: Collection[asyncio.Task[None]], again_seconds: float = AGAIN_SECONDS) -> None:
    """Cancel the tasks until every one has ended. Once is not always enough: what a task waits for may be there in the
    very moment of its cancellation, and `asyncio.wait_for` of Python 3.11 then forgets that it was cancelled."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel("shutdown")
        _, left = await asyncio.wait(left, timeout=again_seconds)
        if left:
            _log.warning("did not end when told to: %s", ", ".join(sorted(task.get_name() for task in left)))


def wait_for_no_thread(code: int, seconds: float = THREADS_SECONDS) -> None:
    """To be called when every room is closed: Python waits without a bound for threads that do what was given up long
    ago, such as to ask a name server that is dead, or to read a file on a share that is gone. `seconds` later the
    process ends with `code` in spite of them."""

    def go() -> None:
        try:
            sys.stderr.write(f"orchestrator has stopped; threads that took over {seconds:g} s to end are left behind\n")
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:  # also where these are closed, or none
            os._exit(code)

    timer = threading.Timer(seconds, go)
    timer.daemon = True
    timer.start()


def _tell(seconds: float) -> None:
    tasks = [task for task in asyncio.all_tasks() if not task.done()]
    _log.error("the stop is not over after %g s; it waits for these tasks", seconds)
    for task in sorted(tasks, key=asyncio.Task.get_name)[:_MOST_TASKS]:
        _log.error("%s is at %s", task.get_name(), " < ".join(_places(task)) or "its beginning")


def _places(task: asyncio.Task[Any]) -> list[str]:
    """Where the task stands, the innermost place first."""
    places = [f"{frame.f_code.co_qualname}:{frame.f_lineno}" for frame in _frames(task.get_coro())]
    return places[::-1][:_DEEPEST]


def _frames(waiting: object) -> Iterator[FrameType]:
    """Of a coroutine and of what it awaits, and so on, as far as Python shows them."""
    at: Any = waiting
    while at is not None:
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        if frame is not None:
            yield frame
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)
