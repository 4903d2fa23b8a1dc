"""One runner: its sandbox's state from the launcher's messages, its output, its credential."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import signal
import time
from collections.abc import Callable

from orchestrator.backends.sandbox.link import Exit, LauncherLink, Listening
from orchestrator.backends.sandbox.output import OutputPump
from orchestrator.backends.sandbox.ports import LogWriter
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.journey import Journey, RunnerStage, StageBegan
from orchestrator.model.runner import ExitCause, RunnerSpec, RunnerState, RunnerView

RETRY_FIRST, RETRY_MOST = 0.1, 5.0
_LAST_SIGNAL = 64


class Sandbox:
    """A runner from its creation to its removal. The token exists here only as its digest.

    `ended` is set when the launcher has verified that nothing of the sandbox is left (or, should the
    launcher have died, when its last process is); `settled` follows when the log is complete and closed.
    """

    def __init__(self, spec: RunnerSpec, link: LauncherLink, changed: Callable[[], None]) -> None:
        self.spec = spec
        self.uid = secrets.token_hex(8)
        self.token_digest = ""
        self.deleting = False
        self.was_orphaned = False
        self.pid = 0
        self.ended = asyncio.Event()
        self.settled = asyncio.Event()
        self._link = link
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._began: list[StageBegan] = []
        self._listening: asyncio.Future[Listening] = self._loop.create_future()
        self._cause: ExitCause | None = None
        self._detail = ""
        self._code: int | None = None
        self._pidfd = -1
        self._writer: LogWriter | None = None
        self._output: OutputPump | None = None
        self._closing: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def launch(self, writer: LogWriter, timeout: float) -> Listening:  # noqa: ASYNC109 -- bounds the launcher
        """Start the sandbox and wait until its listeners exist; the caller owns them.

        Raises:
            TryAgainError: reason `sandbox_start_failed` or `launcher_lost`; nothing is left once `ended` is set.
        """
        self._reached(RunnerStage.CREATE)
        token = secrets.token_urlsafe(32)
        self.token_digest = digest(token)
        self._writer = writer
        try:
            self._link.start(self.uid, self.spec.pool, self, token)
        except TryAgainError:
            self.ended.set()
            self._finish()
            raise
        self._deadline = self._loop.call_later(self.spec.deadline_seconds, self._too_late)
        try:
            async with asyncio.timeout(timeout):
                return await self._listening
        except TimeoutError:
            self.signal(signal.SIGKILL)
            message = f"the sandbox was not ready within {timeout:g} seconds"
            raise TryAgainError(message, reason="sandbox_start_failed") from None

    def signal(self, number: int) -> None:
        """Signal PID 1 of the sandbox; after the end it is nothing."""
        if not self.ended.is_set():
            self._link.signal(self.uid, number)

    def abandon(self) -> None:
        """Give a failed start up: kill what there is; what never began counts as ended."""
        if self._writer is None:
            self.ended.set()
            self._finish()
        self.signal(signal.SIGKILL)

    def view(self) -> RunnerView:
        state = RunnerState.EXITED if self.settled.is_set() else RunnerState.ALIVE
        if state is RunnerState.ALIVE:
            return RunnerView(self.spec.name, state, self.uid)
        return RunnerView(self.spec.name, state, self.uid, self._code, self._cause, self._detail)

    def journey(self) -> Journey | None:
        """Its way so far; None before it was begun."""
        return Journey(self.uid, tuple(self._began)) if self._began else None

    def _reached(self, stage: RunnerStage) -> None:
        self._began.append(StageBegan(stage, time.time_ns()))

    def _too_late(self) -> None:
        self._cause = ExitCause.DEADLINE
        self._detail = f"stopped at its hard deadline of {self.spec.deadline_seconds} seconds"
        self.signal(signal.SIGKILL)

    # The launcher's messages.

    def output(self, descriptor: int) -> None:
        assert self._writer is not None
        self._output = OutputPump(descriptor, self._writer)

    def listening(self, listening: Listening) -> None:
        self._pidfd, self.pid = listening.pidfd, listening.pid
        if self._listening.done():
            listening.gateway.close()
            listening.runner_api.close()
        else:
            self._reached(RunnerStage.START)
            self._listening.set_result(listening)

    def failed(self, error: str) -> None:
        self._fail(error)

    def exited(self, report: Exit) -> None:
        self._code = report.code
        if self._cause is None:
            self._cause, self._detail = cause_of(report)
        self._fail("the sandbox ended while it was being made")
        self._reached(RunnerStage.FLUSH)
        self.ended.set()
        self._finish()

    def orphaned(self) -> None:
        self.was_orphaned = True
        self._fail("the launcher died")
        self._cause, self._detail = ExitCause.LOST, "the launcher of this sandbox died"
        if self._pidfd < 0:
            self.ended.set()
            self._finish()
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._loop.add_reader(self._pidfd, self._orphan_gone)

    def _orphan_gone(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self.ended.set()
        self._finish()

    def _fail(self, error: str) -> None:
        if not self._listening.done():
            said = ""
            if self._output is not None:
                self._output.pull()
                said = self._output.head.decode("utf-8", "replace").strip()
            problem = TryAgainError(f"{error}: {said}" if said else error, reason="sandbox_start_failed")
            self._listening.set_exception(problem)
            self._listening.exception()  # it may be that nobody waits any more

    def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())

    async def _close(self) -> None:
        if self._output is not None:
            await self._output.drained()
        if self._writer is not None:
            await self._close_log(self._writer)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.settled.set()
        self._changed()

    async def _close_log(self, writer: LogWriter) -> None:
        """Until it is closed: an exited runner is only shown once its log is complete and on record."""
        delay = RETRY_FIRST
        while True:
            try:
                await writer.close()
            except (TryAgainError, OSError):
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_MOST)
            except GiveUpError:
                return  # the job's record is closed already
            else:
                return


def digest(token: str) -> str:
    """What stands for a token wherever it has to be compared or looked up."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def cause_of(report: Exit) -> tuple[ExitCause, str]:
    """Why a sandbox ended. Shells and the agent say 128 + n for a process ended by signal n."""
    if report.oom_kills and report.code != 0:
        return ExitCause.OUT_OF_MEMORY, f"the kernel killed {report.oom_kills} process(es) for want of memory"
    if report.lost or report.code is None:
        return ExitCause.LOST, "the sandbox's supervisor was killed"
    if 128 < report.code <= 128 + _LAST_SIGNAL:
        return ExitCause.SIGNALLED, f"ended by signal {report.code - 128}"
    return ExitCause.EXITED, ""
