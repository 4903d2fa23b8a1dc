"""The daemon's handle on the gateway process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from orchestrator.egress.addresses import checked_names
from orchestrator.egress.batch import MAX_TEXT, plausible
from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.wire import ControlLine, Message, rules_on_line
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

START_SECONDS = 30.0
ANSWER_SECONDS = 15.0
STOP_SECONDS = 5.0

_ANSWERS = frozenset({"ready", "opened", "changed", "refused", "closed", "stopped"})
_READY = 0
"""Number of the message that a process begins with."""


class GatewayProcess:
    """Starts the gateway, hands it listeners and brings its verdicts back.

    The process is less trusted than the daemon, because it reads what jobs write: its messages are checked, verdicts
    about runners it does not serve are dropped, and when it breaks the rules of the control line it is killed. When
    it dies, everything that was open has no egress any more, not even to a new process: `start` begins empty.
    """

    def __init__(
        self,
        config: GatewayConfig,
        on_verdict: Callable[[RunnerName, EgressDecided], None],
        on_death: Callable[[frozenset[RunnerName]], None] | None = None,
    ) -> None:
        """`on_verdict` is called on the event loop for each verdict; `on_death` once for each process that ended
        without `stop`, with the runners that were open in it.

        Raises:
            ConfigurationError: reason `egress_name_invalid`.
        """
        self._config = replace(config, names=checked_names(config.names))
        self._on_verdict = on_verdict
        self._on_death = on_death
        self._process: asyncio.subprocess.Process | None = None
        self._line: ControlLine | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._open: set[RunnerName] = set()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._closing: dict[RunnerName, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(_READY + 1)
        self._stopping = False
        self._starting = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._line is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.alive else None

    async def start(self) -> None:
        """Start a process; also after one died. Does nothing while one is alive.

        Raises:
            TryAgainError: reason `gateway_unavailable`, when it does not come up.
        """
        async with self._starting:
            if not self.alive:
                await self._start()

    async def open(self, runner: RunnerName, listener: socket.socket, rules: Sequence[EgressRule]) -> None:
        """Serve `listener`, a listening stream socket, under `rules`; without rules everything is refused.

        Takes the listener over: it is closed here in every case, so that nothing can hang on a listener that nobody
        serves.

        Raises:
            TryAgainError: reason `gateway_unavailable`: it is dead, died, or did not answer and was killed.
            GiveUpError: reason `runner_already_open`, `egress_rules_too_many` or `listener_invalid`.
            ConfigurationError: reason `egress_rule_invalid`.
        """
        with listener:
            listed = rules_on_line(rules)
            line = self._line
            if line is None:
                raise _unavailable()
            if runner in self._open:
                raise GiveUpError(f"{runner} is open already", reason="runner_already_open")
            self._open.add(runner)
            answer = self._ask(line, {"do": "open", "runner": runner, "rules": listed, "listener": True}, listener)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await answer
        except (TimeoutError, asyncio.CancelledError) as error:
            # Whatever became of it, it must not stay open unknown to the caller.
            _ = self._ask(line, {"do": "close", "runner": runner})
            self._open.discard(runner)
            if isinstance(error, TimeoutError):
                self._kill()  # one that hangs would hang for ever; one that died is started again
                raise _unavailable() from error
            raise
        if reply["is"] == "refused":
            self._open.discard(runner)
            raise GiveUpError(str(reply.get("message", ""))[:MAX_TEXT], reason=str(reply.get("reason"))[:64])

    async def change(self, runner: RunnerName, rules: Sequence[EgressRule]) -> bool:
        """Have an open runner go by `rules`; True when they are in force and what they do not allow is cut off.
        False for a runner that is not open: it has no egress at all.

        A gateway that does not answer is killed: rules that may or may not be in force are worse than no egress.

        Raises:
            TryAgainError: reason `gateway_unavailable`: it died or was killed, and with it the runner's egress.
            GiveUpError: reason `egress_rules_too_many`; nothing was changed.
            ConfigurationError: reason `egress_rule_invalid`; nothing was changed.
        """
        listed = rules_on_line(rules)
        line = self._line
        if line is None or runner not in self._open:
            return False
        answer = self._ask(line, {"do": "change", "runner": runner, "rules": listed})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = await answer
        except TimeoutError as error:
            self._kill()
            await self._gone()
            raise _unavailable() from error
        if reply["is"] == "refused" and reply.get("reason") != "runner_not_open":  # it may have been closed meanwhile
            raise GiveUpError(str(reply.get("message", ""))[:MAX_TEXT], reason=str(reply.get("reason"))[:64])
        return bool(reply["is"] == "changed")

    async def close(self, runner: RunnerName) -> None:
        """Take the runner's egress away: listener and connections end. Idempotent, and never fails.

        When it returns, all verdicts about the runner have gone to `on_verdict`, except those that died with the
        gateway. A gateway that does not answer is killed: access that cannot be revoked is worse than none.
        """
        line = self._line
        if line is None or runner not in self._open:
            return
        answer = self._closing.get(runner)
        if answer is None:
            answer = self._closing[runner] = self._ask(line, {"do": "close", "runner": runner})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await asyncio.shield(answer)
        except TimeoutError:
            self._kill()
            await self._gone()
        except TryAgainError:
            pass  # it died, and the runner's egress with it
        if self._closing.get(runner) is answer:
            del self._closing[runner]
            self._open.discard(runner)

    async def stop(self) -> None:
        """Close all runners, then end the process: asked first, killed if it does not go. Idempotent."""
        line = self._line
        if line is None:
            return
        self._stopping = True
        answer = self._ask(line, {"do": "stop"})
        with contextlib.suppress(TimeoutError, TryAgainError):
            async with asyncio.timeout(STOP_SECONDS):
                await answer
        line.close()  # end of file is its signal to exit
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._gone()
        self._kill()
        await self._gone()

    # --- the process ---

    async def _start(self) -> None:
        self._stopping = False
        ready = self._waiting[_READY] = self._future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        line = ControlLine(ours, self._received, self._kill, takes_descriptors=False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-m", "orchestrator.egress", str(theirs.fileno()), str(os.getpid())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env={},
                    cwd="/",
                    start_new_session=True,  # an operator's ^C is for the daemon, which then stops us in order
                )
        except OSError as error:
            line.close()
            self._waiting.clear()
            raise TryAgainError(f"the gateway cannot be started: {error}", reason="gateway_unavailable") from error
        self._process, self._line = process, line
        self._watcher = asyncio.get_running_loop().create_task(self._watch(process, line))
        line.send(self._config.to_json())
        try:
            async with asyncio.timeout(START_SECONDS):
                await ready
        except (TimeoutError, TryAgainError) as error:
            self._stopping = True
            self._kill()
            await self._gone()
            raise TryAgainError(
                "the gateway did not come up", reason="gateway_unavailable", fix="its standard error says why"
            ) from error

    def _received(self, message: Message, _descriptor: int | None) -> None:
        runner, number = message.get("runner"), message.get("number")
        if message.get("is") == "verdict":
            self._verdict(runner, message.get("verdict"))
        elif isinstance(number, int) and message.get("is") in _ANSWERS:
            answer = self._waiting.pop(number, None)
            if answer is not None and not answer.done():
                answer.set_result(message)
        else:
            self._kill()

    def _verdict(self, runner: object, content: object) -> None:
        if not isinstance(runner, str) or RunnerName(runner) not in self._open:
            return
        try:
            verdict = msgspec.convert(content, EgressDecided)
        except msgspec.ValidationError:
            self._kill()
            return
        if not plausible(verdict):
            self._kill()
            return
        try:
            self._on_verdict(RunnerName(runner), verdict)
        except Exception as error:  # noqa: BLE001 - the consumer's fault must not cost the verdicts behind this one
            context = {"message": "an egress verdict was not taken", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def _ask(
        self, line: ControlLine, message: Message, listener: socket.socket | None = None
    ) -> asyncio.Future[Message]:
        """Each request has a number of its own, so that an answer nobody waits for is not taken for another's."""
        number = next(self._numbers)
        answer = self._waiting[number] = self._future()
        line.send({**message, "number": number}, None if listener is None else listener.fileno())
        return answer

    def _future(self) -> asyncio.Future[Message]:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting any more when the process dies.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        return answer

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _gone(self) -> None:
        if self._watcher is not None:
            await asyncio.shield(self._watcher)

    async def _watch(self, process: asyncio.subprocess.Process, line: ControlLine) -> None:
        await process.wait()
        line.drain()
        line.close()
        self._line = None
        lost, self._open = frozenset(self._open), set()
        waiting, self._waiting, self._closing = self._waiting, {}, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(_unavailable())
        if not self._stopping and self._on_death is not None:
            self._on_death(lost)


def _unavailable() -> TryAgainError:
    return TryAgainError("the egress gateway is not running", reason="gateway_unavailable")
