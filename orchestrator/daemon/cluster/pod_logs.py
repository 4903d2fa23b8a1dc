"""The output of jobs in pods, brought into the job logs while it comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.backends.kubernetes.answers import NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.pod import Pod
from orchestrator.backends.kubernetes.pod_log import Position, read_log
from orchestrator.backends.kubernetes.registry import Registry
from orchestrator.daemon.verdicts import EngineOf
from orchestrator.errors import OrchestratorError
from orchestrator.journal.logs import LogStore, LogWriter, note
from orchestrator.model.events import Event, LogClosed
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName

_log = logging.getLogger(__name__)

LAST_OUTPUT_SECONDS = 10.0
"""How long the end of a job that ended by itself waits for its last output, before its pod is deleted."""
_LOOK_SECONDS = 0.1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_TRIES_AFTER_THE_END = 5
_SAVE_SECONDS = 1.0


class PodLogs:
    """Follows a job from its binding to its pod's end. A `lifecycle.ports.Attester`: the log's end is a fact.

    How far a log was read, and how long ours was then, is kept in a file. A new daemon goes on there: it takes away
    what a killed one wrote after that and reads it again, so that every line comes once.
    """

    def __init__(
        self, config: KubernetesConfig, client: ApiClient, registry: Registry, store: LogStore, engine: EngineOf,
        folder: Path,
    ) -> None:  # fmt: skip
        """`folder` is for positions; it is made with mode 0700."""
        self._config = config
        self.client = client
        self._registry = registry
        self._store = store
        self._engine = engine
        self._folder = folder
        self._following: dict[RunnerName, asyncio.Task[None]] = {}
        self._writers: dict[RunnerName, LogWriter] = {}
        self._drained: dict[RunnerName, int] = {}
        self._closed: dict[RunnerName, LogClosed] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def follow(self, record: Record) -> None:
        """Begin, unless that was done, or the pool's logs stay in the cluster."""
        name = record.runner
        pool = self._config.pools.get(record.offer.spec.pool)
        if name is None or pool is None or not pool.stream_logs or name in self._following or name in self._closed:
            return
        writer = self._writers[name] = self._store.open(record.id)
        task = asyncio.get_running_loop().create_task(self._follow(name, writer), name=f"log of {name}")
        self._following[name] = task

    async def settle(self, record: Record) -> None:
        """Wait a while for the last output of a job whose container has ended; what still runs is not waited for.

        That it ended is known by its exit code too: the registry may be behind, as after an outage of the API server.
        """
        task = self._following.get(record.runner) if record.runner else None
        if task is None or record.runner is None:
            return
        found = self._registry.find(record.runner)
        exited = record.outcome is not None and record.outcome.exit_code is not None
        if exited or (found is not None and found[1].job.terminated is not None):
            await asyncio.wait([task], timeout=LAST_OUTPUT_SECONDS)

    async def attest(self, record: Record) -> Sequence[Event]:
        """Close the log; the pod is gone. The same answer each time."""
        name = record.runner
        writer = self._writers.get(name) if name else None
        if name is not None and writer is not None:
            await self._end(name)
            closed = await writer.close()
            self._writers.pop(name, None)  # not before: whoever gave up waiting here asks again
            self._closed[name] = replace(closed, drained_at_ns=self._drained.pop(name, 0))
            self._path(name).unlink(missing_ok=True)
        return (self._closed[name],) if name in self._closed else ()

    def tidy(self) -> None:
        """Forget jobs that are finished."""
        for name in [name for name in self._closed if self._engine().record_of_runner(name) is None]:
            del self._closed[name]

    async def close(self) -> None:
        """Stop following. The jobs go on, and the next daemon reads on."""
        for name in list(self._following):
            await self._end(name)

    async def _end(self, name: RunnerName) -> None:
        task = self._following.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, name: RunnerName, writer: LogWriter) -> None:
        try:
            await self._read_all(name, writer)
            self._drained[name] = time.time_ns()
        except Exception:  # noqa: BLE001 -- a log that is lost must not cost more than itself
            _log.exception("the log of %s could not be followed", name)
            writer.write(note("the rest of the output could not be read"))

    async def _read_all(self, name: RunnerName, writer: LogWriter) -> None:
        position, size = await asyncio.to_thread(self._load, name)
        saved = asyncio.get_running_loop().time()
        pause, failures, rewound = _FIRST_PAUSE, 0, False

        async def write(output: bytes, reached: Position) -> None:
            nonlocal position, saved, rewound
            if not rewound:  # not before something comes: the pod may be gone
                await writer.rewind(size)
                rewound = True
            writer.write(output)
            position = reached  # before anything is waited for: whoever stops us there has the output already
            await writer.drain()
            now = asyncio.get_running_loop().time()
            if now - saved >= _SAVE_SECONDS:
                saved = now
                await self._save(name, writer, reached)

        while (pod := await self._begun(name)) is not None:
            ended = pod[1].job.terminated is not None
            try:
                whole = await read_log(self.client, pod[0], pod[1].name, position, write)
                pause = _FIRST_PAUSE
            except NotFoundError:
                return
            except OrchestratorError as error:
                whole, failures = False, failures + ended
                if failures >= _TRIES_AFTER_THE_END:
                    _log.warning("the log of %s cannot be read: %s", name, error, extra={"reason": error.reason})
                    writer.write(note(f"the output could not be read [{error.reason}]"))
                    return
            finally:
                if rewound:
                    await self._save(name, writer, position)
            if whole and ended:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _begun(self, name: RunnerName) -> tuple[str, Pod] | None:
        """The runner's pod once its job has begun; None when it is gone, or will never begin."""
        seen = False
        while True:
            found = self._registry.find(name)
            if found is not None:
                seen = True
                pod = found[1]
                if pod.job.running or pod.job.terminated is not None:
                    return found
                if pod.phase in ("Succeeded", "Failed"):
                    return None
            elif seen or self._registry.gone(name) is not None:
                return None
            await asyncio.sleep(_LOOK_SECONDS)

    def _path(self, name: RunnerName) -> Path:
        return self._folder / name

    def _load(self, name: RunnerName) -> tuple[Position, int]:
        """Where to read on, and how much of our log had been written there."""
        try:
            where, _, size = self._path(name).read_text("ascii").rpartition(" ")
            return Position.read(where), int(size)
        except (OSError, ValueError):
            return Position(), 0

    async def _save(self, name: RunnerName, writer: LogWriter, position: Position) -> None:
        size = await writer.settled()
        if size is not None:
            await asyncio.to_thread(self._put, self._path(name), f"{position.text().strip()} {size}\n")

    def _put(self, path: Path, text: str) -> None:
        # A disk that is full costs a longer way back, at worst.
        with contextlib.suppress(OSError):
            new = path.with_name(f"{path.name}.new")
            new.write_text(text, "ascii")
            new.replace(path)
