"""The gateway process: `python -I -m orchestrator.egress CONTROL_DESCRIPTOR PARENT_PID`, started by the daemon.

It ends when the control line ends, when told to, and by SIGKILL when its parent dies.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.confine import confine
from orchestrator.egress.gateway import Gateway
from orchestrator.egress.wire import ControlLine, LineError, Message, receive_first
from orchestrator.errors import OrchestratorError
from orchestrator.model.egress import EgressProtocol, EgressRule
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

FIRST_MESSAGE_SECONDS = 30.0
RESERVED_FILES = 128
"""Descriptors that connections never take: listeners, resolver, loop."""


class _Service:
    """Does what the control line says, one message after the other."""

    def __init__(self, control: socket.socket, config: GatewayConfig, files: int) -> None:
        self._todo: asyncio.Queue[tuple[Message, int | None] | None] = asyncio.Queue()
        self._line = ControlLine(
            control,
            lambda message, descriptor: self._todo.put_nowait((message, descriptor)),
            lambda: self._todo.put_nowait(None),
            takes_descriptors=True,
        )
        # Each connection takes two descriptors.
        self._gateway = Gateway(config, self._verdict, max_connections=max((files - RESERVED_FILES) // 2, 16))

    async def run(self) -> None:
        self._line.send({"is": "ready", "number": 0})
        while (item := await self._todo.get()) is not None:
            message, descriptor = item
            number = message["number"]
            if message["do"] == "stop":
                await self._gateway.stop()
                self._line.send({"is": "stopped", "number": number})
            elif message["do"] == "close":
                await self._gateway.close(RunnerName(message["runner"]))
                self._line.send({"is": "closed", "number": number})
            elif message["do"] == "open" and descriptor is not None:
                await self._open(RunnerName(message["runner"]), message, socket.socket(fileno=descriptor))
            elif message["do"] == "change":
                self._change(RunnerName(message["runner"]), message)
            else:
                raise LineError("unknown message")

    async def _open(self, name: RunnerName, message: Message, listener: socket.socket) -> None:
        answer: Message = {"is": "opened", "number": message["number"]}
        try:
            await self._gateway.open(name, listener, _rules(message))
        except OrchestratorError as error:
            answer.update(_refused(error))
        self._line.send(answer)

    def _change(self, name: RunnerName, message: Message) -> None:
        answer: Message = {"is": "changed", "number": message["number"]}
        try:
            self._gateway.change(name, _rules(message))
        except OrchestratorError as error:
            answer.update(_refused(error))
        self._line.send(answer)

    def _verdict(self, name: RunnerName, verdict: EgressDecided) -> None:
        self._line.send({"is": "verdict", "runner": name, "verdict": asdict(verdict)})


def _rules(message: Message) -> list[EgressRule]:
    return [EgressRule(host, port, EgressProtocol(protocol)) for host, port, protocol in message["rules"]]


def _refused(error: OrchestratorError) -> Message:
    return {"is": "refused", "reason": error.reason, "message": str(error)}


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it is installed; the same program runs without."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def main(arguments: list[str]) -> None:
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    config = GatewayConfig.from_json(receive_first(control, FIRST_MESSAGE_SECONDS))
    factory = loop_factory()
    try:
        files = confine(config.uid, int(arguments[1]))
    except OSError as error:
        sys.exit(
            f"egress gateway: it cannot give up its privileges: {error.strerror or error}\n"
            "  fix: set host_uid_base to user ids that this container has, or run the daemon as a normal user"
        )

    async def serve() -> None:
        await _Service(control, config, files).run()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main(sys.argv[1:])
