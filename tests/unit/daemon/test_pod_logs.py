"""A pod's log that is read by one daemon after another: each line once, wherever the first one is stopped."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

from orchestrator.backends.kubernetes.pod import Container, Pod, Terminated
from orchestrator.daemon.cluster.pod_logs import PodLogs
from orchestrator.errors import TryAgainError
from orchestrator.journal.logs import LogStore, LogWriter
from orchestrator.journal.redact import Masker
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Outcome, Result

JOB = JobId("memory.1.1")
LINES = [f"2026-11-25T21:00:0{number}.5Z line {number}\n".encode() for number in range(6)]


class Kubelet:
    """Streams the lines so far, as `pods/log` does, and then waits."""

    def __init__(self) -> None:
        self.lines = LINES[:3]

    @asynccontextmanager
    async def pieces(self, _path, *, params, idle):
        async def read():
            since = params.get("sinceTime", "").rstrip("Z").encode()
            yield b"".join(line for line in self.lines if line[: len(since)] >= since)
            await asyncio.Event().wait()

        yield read()


def logs(folder: Path, kubelet: Kubelet) -> tuple[PodLogs, LogStore]:
    pods = {"p": SimpleNamespace(stream_logs=True)}
    registry = SimpleNamespace(find=lambda _: ("runners", Pod("pod", "uid", "1", job=Container(running=True))))
    store = LogStore(folder / "logs", 100_000, Masker())
    return PodLogs(SimpleNamespace(pools=pods), kubelet, registry, store, lambda: None, folder / "positions"), store


RECORD = SimpleNamespace(id=JOB, runner="runner-1", offer=SimpleNamespace(spec=SimpleNamespace(pool="p")))


async def test_a_daemon_that_is_stopped_while_a_slow_disk_takes_a_line_leaves_it_once(tmp_path, monkeypatch):
    kubelet, slow = Kubelet(), asyncio.Event()

    async def drain(_writer):
        slow.set()
        await asyncio.Event().wait()

    first, store = logs(tmp_path, kubelet)
    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "drain", drain)
        first.follow(RECORD)
        await asyncio.wait_for(slow.wait(), 5)
        await first.close()
    await store.close()
    kubelet.lines = LINES
    second, store = logs(tmp_path, kubelet)
    second.follow(RECORD)
    path = tmp_path / "logs" / f"{JOB}.log"
    async with asyncio.timeout(5):
        while b"line 5" not in path.read_bytes():
            await asyncio.sleep(0.01)
    await second.close()
    await store.close()
    assert path.read_bytes() == b"".join(b"line %d\n" % number for number in range(6))


async def test_the_last_output_is_waited_for_while_the_registry_is_behind(tmp_path):
    """After an outage the job's exit is known by a look, before the watch tells of it; its log is not all there yet."""
    kubelet, followed = Kubelet(), SimpleNamespace(stream=0)
    kubelet.lines = LINES
    first_stream = kubelet.pieces

    @asynccontextmanager
    async def pieces(path, *, params, idle):
        followed.stream += 1
        if followed.stream == 1:
            yield cut()
            return
        async with first_stream(path, params=params, idle=idle) as whole:
            yield only_first(whole)

    async def cut():
        yield b"".join(LINES[:2])
        raise TryAgainError("the connection was cut", reason="cluster_unavailable")

    async def only_first(stream):
        yield await anext(stream)

    kubelet.pieces = pieces
    pod_logs, store = logs(tmp_path, kubelet)
    state = Container(running=True)
    pod_logs._registry = SimpleNamespace(find=lambda _: ("runners", Pod("pod", "uid", "1", job=state)))

    def seen():
        nonlocal state
        state = Container(terminated=Terminated(exit_code=3))

    pod_logs.follow(RECORD)
    asyncio.get_running_loop().call_later(0.5, seen)
    outcome = Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "exit code 3", 3)
    await pod_logs.settle(SimpleNamespace(id=JOB, runner="runner-1", outcome=outcome))
    await pod_logs.close()
    await store.close()
    assert (tmp_path / "logs" / f"{JOB}.log").read_bytes() == b"".join(b"line %d\n" % number for number in range(6))


async def test_a_log_whose_closing_took_too_long_is_told_of_when_asked_again(tmp_path, monkeypatch):
    kubelet, gate, begun = Kubelet(), threading.Event(), threading.Event()
    pod_logs, store = logs(tmp_path, kubelet)
    writer, finish = store.open(JOB), LogWriter._finish

    def held(self):
        begun.set()
        gate.wait(20)
        finish(self)

    monkeypatch.setattr(LogWriter, "_finish", held)
    pod_logs.follow(RECORD)
    writer.write(b"one line\n")
    first = asyncio.create_task(pod_logs.attest(RECORD))
    await asyncio.to_thread(begun.wait, 20)
    first.cancel()  # what the engine's patience does
    await asyncio.wait([first])
    gate.set()
    (closed,) = await pod_logs.attest(RECORD)
    assert closed.bytes_kept == len(b"one line\n")
    assert await pod_logs.attest(RECORD) == (closed,)
    await pod_logs.close()
    await store.close()
