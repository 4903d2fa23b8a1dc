"""Following a job to its end: what it waits for, its log as it comes, how it ended.

The daemon may restart meanwhile: every stream is taken up again where it broke off, for as long as `patience`
lasts, and a line is never shown twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from orchestrator.cli.exits import AnswerError, CommandError, UnreachableError
from orchestrator.cli.jobs.terminal import TerminalFilter
from orchestrator.cli.link.client import DaemonClient, IdleError
from orchestrator.cli.link.patience import Patience

Document = dict[str, Any]
_LOST_SECONDS = 60.0


def follow(
    client: DaemonClient, job_id: str, *, tell: Callable[[str], None], patience: Patience | None = None
) -> Document:
    """Show a job until its end is recorded; its view then.

    Raises:
        UnreachableError: the daemon stayed away for longer than `patience` lasts (a minute).
    """
    patience = patience or Patience(seconds=_LOST_SECONDS)
    told: set[str] = set()

    def tell_once(alarm: str) -> None:
        if alarm not in told:
            told.add(alarm)
            tell(alarm)

    for text in _until_work_begins(client, job_id, patience, tell_once):
        tell(text)
    stream_log(client, job_id, follow_end=True, patience=patience)
    return wait_for_end(client, job_id, patience=patience, tell=tell_once)


def wait_for_end(
    client: DaemonClient,
    job_id: str,
    *,
    patience: Patience | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Document:
    """The job's view as soon as it has a result; its facts are followed, not asked for again and again.

    `tell` gets a line for each alarm: what makes the wait longer than it should be.
    """
    patience = patience or Patience(seconds=_LOST_SECONDS)
    while True:
        try:
            view = client.job(job_id)
        except CommandError as error:
            _bear(error, patience)
            continue
        if view.get("result"):
            return view
        for kind, event in _facts(client, job_id, patience):
            if kind == "AlarmRaised":
                tell(_alarm(event))
            if kind in ("JobEnded", "JobFinished", "JobCompacted"):
                break


def stream_log(client: DaemonClient, job_id: str, *, follow_end: bool, patience: Patience | None = None) -> None:
    """The job's output to standard output; with `follow_end` until its log is closed."""
    patience = patience or Patience(seconds=_LOST_SECONDS)
    sink = LogSink(sys.stdout)
    try:
        if not follow_end:
            for chunk in client.log(job_id):
                sink.write(chunk)
            return
        while True:
            try:
                for chunk in client.log(job_id, offset=sink.received, follow=True):
                    sink.write(chunk)
                    patience.succeeded()
            except IdleError:
                patience.succeeded()
                continue
            except CommandError as error:
                _bear(error, patience)
                continue
            return
    finally:
        sink.close()


class LogSink:
    """Bytes of a log to a text stream: as they are into a file or pipe, without steering sequences to a terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._filter = TerminalFilter() if out.isatty() else None
        self.received = 0

    def write(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self._filter:
            self._out.write(self._filter.feed(chunk))
        else:
            self._out.flush()
            self._out.buffer.write(chunk)
        self._out.flush()

    def close(self) -> None:
        if self._filter:
            self._out.write(self._filter.close() + "\x1b[0m")
            self._out.flush()


def _bear(error: CommandError, patience: Patience) -> None:
    """Wait before the next try after a fault that may pass; raise any other."""
    passing = isinstance(error, UnreachableError) or (
        isinstance(error, AnswerError) and (error.status in (429, 502, 503, 504) or error.reason == "log_not_found")
    )
    if not passing:
        raise error
    wish = error.retry_after_seconds if isinstance(error, AnswerError) else None
    patience.failed(error, wish, expected=error.reason == "log_not_found")


def _facts(client: DaemonClient, job_id: str, patience: Patience) -> Iterator[tuple[str, Document]]:
    """Kind and event of each fact, each once, until the stream ends by the job's end."""
    seen = 0
    while True:
        try:
            for server_event in client.events(job_id, after=seen):
                number = int(server_event.id) if server_event.id.isdecimal() else seen + 1
                if number <= seen:
                    continue
                seen = number
                patience.succeeded()
                document = json.loads(server_event.data)
                yield server_event.kind, document.get("event", document)
            if client.job(job_id).get("result"):
                return
            patience.failed(UnreachableError(f"{client.url} ends its event stream before the job's end", sent=True))
        except IdleError:
            patience.succeeded()
        except CommandError as error:
            _bear(error, patience)


def _alarm(event: Document) -> str:
    return f"alarm: {event.get('alarm')}: {event.get('detail')}"


def _until_work_begins(
    client: DaemonClient, job_id: str, patience: Patience, tell: Callable[[str], None]
) -> Iterator[str]:
    """A line for each step towards work; ends when the job has its runner or its end."""
    for kind, event in _facts(client, job_id, patience):
        match kind:
            case "JobAdmitted":
                yield "admitted by policy"
            case "JobWaited":
                detail = event.get("detail")
                yield f"waiting: {event.get('reason')}" + (f" ({detail})" if detail else "")
            case "ProvisionStarted":
                yield "starting a runner"
            case "RunnerVanished":
                yield f"the runner vanished before it had the work: {event.get('detail') or 'no reason known'}"
            case "AlarmRaised":
                tell(_alarm(event))
            case "RunnerBound":
                yield "running"
                return
            case "JobEnded" | "JobFinished" | "JobCompacted":
                return
            case _:
                pass
