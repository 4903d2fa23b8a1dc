"""What the sandbox backend needs from its neighbours; the composition root plugs them in.

All `open`/`serve` calls take ownership of the listener they are given, also when they fail.
"""

from __future__ import annotations

import socket
from typing import Protocol

from orchestrator.model.egress import EgressRule
from orchestrator.model.job import JobId
from orchestrator.model.runner import RunnerName


class EgressPort(Protocol):
    """The gateway, as far as one runner's listener inside its network namespace is concerned."""

    async def open(self, runner: RunnerName, listener: socket.socket, rules: tuple[EgressRule, ...]) -> None:
        """Serve `listener` (listening on the runner's 127.0.0.1:3128) by these rules."""
        ...

    async def close(self, runner: RunnerName) -> None:
        """Cut every connection of the runner. Returns after all its verdicts were delivered; idempotent."""
        ...


class RunnerListeners(Protocol):
    """The runner API's listener inside one runner (127.0.0.1:3129)."""

    async def serve(self, runner: RunnerName, uid: str, listener: socket.socket) -> None:
        """Accept calls from this runner; a token of any other runner on this listener is an alarm."""
        ...

    async def close(self, runner: RunnerName) -> None:
        """Stop serving the runner; idempotent."""
        ...


class LogWriter(Protocol):
    """Takes a job's output. Size limit and masking are its business: it drops, it never blocks."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Until more can be taken without loss: a slow disk slows the job down, a full log does not."""
        ...

    async def close(self) -> object:
        """Flush and close; nothing is written afterwards. Idempotent; what it returns is nobody's business here."""
        ...


class JobLogs(Protocol):
    def open(self, job_id: JobId) -> LogWriter:
        """The writer of this job's log; it appends when the job had an earlier runner."""
        ...
