"""Being told to stop while there is nothing to drain yet: what was opened is closed again, and the Lease given back."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from orchestrator.daemon.last_resort import expect_the_end
from orchestrator.daemon.operations.reload import has_terminal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ToldToStopError(Exception):
    """A signal came before the daemon was ready."""


@contextlib.contextmanager
def until_told_to_stop(hung_up: Callable[[], None]) -> Iterator[None]:
    """Cancel what the current task does inside at the first SIGTERM or SIGINT; also at a SIGHUP of a terminal that was
    closed over us. At any other `hung_up` is called, for there is nothing yet that could be loaded again.

    At a good end the handlers stay until others replace them, which is to be done before anything is awaited.

    A container's first process must have a handler to notice a signal at all: the kernel drops those that would have
    their default effect on it, and whoever sent one waits for the SIGKILL.

    Raises:
        ToldToStopError: a signal came.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told, began_on_terminal, begun = False, has_terminal(), False

    def signalled() -> None:
        nonlocal told
        if not told:
            told = True
            task.cancel()
            expect_the_end()

    def hangup() -> None:
        (signalled if began_on_terminal and not has_terminal() else hung_up)()

    handlers = {**dict.fromkeys(STOP_SIGNALS, signalled), signal.SIGHUP: hangup}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    # Who started us may have left them blocked, which a program inherits.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
    try:
        yield
        begun = not told
    except asyncio.CancelledError:
        if not told or task.uncancel():
            raise
        raise ToldToStopError from None
    finally:
        # At a good end they stay: without any, a signal would end us there and then.
        for number in () if begun else handlers:
            loop.remove_signal_handler(number)
    if told:
        task.uncancel()
        raise ToldToStopError
