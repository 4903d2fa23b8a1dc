"""Being told to stop while there is nothing to drain yet: what was opened is closed again, and the Lease given back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ToldToStopError(Exception):
    """A signal came before the daemon was ready."""


@contextlib.contextmanager
def until_told_to_stop() -> Iterator[None]:
    """Cancel what the current task does inside at the first SIGTERM or SIGINT.

    A container's first process must have a handler to notice a signal at all: the kernel drops those that would have
    their default effect on it, and whoever sent one waits for the SIGKILL.

    Raises:
        ToldToStopError: a signal came.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told = False

    def signalled() -> None:
        nonlocal told
        if not told:
            told = True
            task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, signalled)
    # Who started us may have left them blocked, which a program inherits.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        yield
    except asyncio.CancelledError:
        if not told or task.uncancel():
            raise
        raise ToldToStopError from None
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
    if told:
        task.uncancel()
        raise ToldToStopError
