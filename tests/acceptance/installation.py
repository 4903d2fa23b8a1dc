"""Drives the real program from outside: its processes by signals, the daemon by HTTP and by the command line."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from witness import HOST, PREAMBLE, Witness

from orchestrator.daemon.clock import SystemClock
from orchestrator.evidence.signing_key import key_id
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import Fact, RunnerBound
from orchestrator.model.job import JobId
from orchestrator.testing.checker import World, broken_promises
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.ports import free_port
from orchestrator.testing.receipts import wrong_receipts

PROGRAM = (sys.executable, "-m", "orchestrator")
GONE_SECONDS = 20.0
"""The bound of *nothing left behind* after the end of a daemon, however it ended."""

STAGING_PLACES = ("/mnt", "/media", "/srv", "/var/empty", "/boot", "/home", "/opt")
"""Where a root daemon binds what its sandboxes cannot reach, in a mount namespace of its own."""

_uid_ranges = itertools.count(1)
_UIDS = 5000
"""Host user ids of one installation, when we are root: more than it ever lends."""


class Answer(NamedTuple):
    """An HTTP answer of the API."""

    status: int
    body: dict[str, Any]
    headers: Any


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class NotStartedError(Exception):
    """The daemon ended before it was ready; `code` is its exit code, `said` its standard error."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"exit code {code}: {said}")
        self.code = code
        self.said = said


class Installation:
    """One state folder with its configuration, and the daemons that live on it, one after the other.

    The port stays the same over restarts, as it does for users: the daemon's URL is also its issuer. Jobs of the
    pool `default` (capacity 2 unless `settings` say otherwise) may reach `witness` and nothing else.
    """

    def __init__(self, folder: Path, witness: Witness | None = None, otlp: str = "", **settings: Any) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log = folder / "daemon.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.witness = witness
        self.accepted: list[JobId] = []
        self.process: asyncio.subprocess.Process | None = None
        self.prefix: tuple[str, ...] = ()
        """Words before the daemon's command line, for a daemon in other namespaces."""
        self.root = Path("/")
        """Where the daemon's file system is seen from here."""
        self._session: aiohttp.ClientSession | None = None
        self._seen: dict[tuple[int, float], str] = {}
        self._mounts = self._our_mounts()
        self.uid_base = 300_000_000 + (os.getpid() % 4096) * 400_000 + next(_uid_ranges) * _UIDS
        """First of the host user ids that are this installation's alone, for pools that `settings` name."""
        self.configure(otlp, **settings)

    def configure(self, otlp: str = "", **settings: Any) -> None:
        """Write the configuration file; `settings` replace whole top-level keys, `capacity` is the pool's."""
        capacity = settings.pop("capacity", 2)
        rules = [self.witness.rule] if self.witness else []
        sandbox = {"host_uid_base": self.uid_base}
        document: dict[str, Any] = {
            "state_dir": str(self.state),
            "server": {"port": self.port},
            "egress": {"names": {HOST: "127.0.0.1"}},
            "telemetry": {"otlp_endpoint": otlp, "export_interval_seconds": 0.1},
            "pools": [{"name": "default", "capacity": capacity, "egress": rules, "sandbox": sandbox}],
        }
        self.config = self.folder / "orchestrator.yaml"
        self.config.write_text(yaml.safe_dump(document | settings), encoding="utf-8")

    # The daemon's process.

    async def launch(self) -> asyncio.subprocess.Process:
        """Start a daemon on this configuration and do not wait for it."""
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *self.prefix, *PROGRAM, "run", "--config", str(self.config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env=os.environ | {"TMPDIR": str(self.temporary)},
            )  # fmt: skip

    async def start(self) -> None:
        """Start a daemon and wait until it is ready.

        Raises:
            NotStartedError: it ended instead.
        """
        before = self.log.stat().st_size if self.log.exists() else 0
        process = self.process = await self.launch()
        about = self.seen(self.state / "daemon.json")
        async with asyncio.timeout(120):
            while process.returncode is None and _pid_in(about) != process.pid:
                await asyncio.sleep(0.01)
        if process.returncode is not None:
            self.process = None
            raise NotStartedError(process.returncode, self.log.read_bytes()[before:].decode())
        self.watch()

    def watch(self) -> None:
        """Note every process that descends from the daemon now, so that `left` can tell whether it outlived it."""
        if self.process is None:
            return
        try:
            root = psutil.Process(self.process.pid)
            for one in (root, *root.children(recursive=True)):
                self._seen[one.pid, one.create_time()] = one.name()
        except psutil.Error:
            return

    def part(self, word: str) -> psutil.Process:
        """The daemon's own child whose command line holds `word`: `orchestrator.egress` or `launcher`."""
        assert self.process is not None
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # one that is ending
                found += [child] * (word in " ".join(child.cmdline()))
        (part,) = found
        return part

    async def agent_begun(self) -> None:
        """Wait until some sandbox has its agent as PID 1: in those that nobody uses bubblewrap waits there."""
        launcher = self.part("launcher")
        async with asyncio.timeout(30):
            while not any(_is_agent(one) for outer in launcher.children() for one in outer.children()):
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer or an impatient operator does."""
        assert self.process is not None
        self.watch()
        self.process.kill()
        await self._ended()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.watch()
        self.process.send_signal(number)

    async def stop(self, seconds: float = 60) -> int:
        """SIGTERM, and the exit code."""
        self.signal()
        return await self.exit_code(seconds)

    async def exit_code(self, seconds: float = 60) -> int:
        """Wait for the daemon's end."""
        try:
            async with asyncio.timeout(seconds):
                return await self._ended()
        except TimeoutError:
            said = self.log.read_text(encoding="utf-8")[-8000:]
            raise AssertionError(f"the daemon has not ended within {seconds} s: {said}") from None

    async def _ended(self) -> int:
        assert self.process is not None
        code = await self.process.wait()
        self.process = None
        if self._session is not None:
            await self._session.close()
            self._session = None
        return code

    async def close(self) -> None:
        """End what still runs; for the end of a test, however it went."""
        if self.process is not None and self.process.returncode is None:
            await self.kill()
        if self._session is not None:
            await self._session.close()

    async def left(self) -> list[str]:
        """What is there of our daemons after their end, looked at until it is nothing or the bound has passed."""
        until = time.monotonic() + GONE_SECONDS
        while (found := self.present()) and time.monotonic() < until:
            await asyncio.sleep(0.02)
        return found

    def present(self) -> list[str]:
        """What is there now of our daemons and their sandboxes, as far as `watch` and the system tell."""
        now = {p.pid: p for p in psutil.process_iter(["create_time", "status", "uids"])}
        alive = {pid: p for pid, p in now.items() if p.info["status"] != psutil.STATUS_ZOMBIE}
        found = [
            f"process {pid} ({name})"
            for (pid, born), name in self._seen.items()
            if pid in alive and alive[pid].info["create_time"] == born
        ]
        # As root the gateway and each sandbox have a user id of their own, out of this installation's range.
        uids = range(self.uid_base - 1, self.uid_base + _UIDS - 1)
        found += [f"process {pid} of a sandbox or gateway" for pid, p in alive.items() if p.info["uids"].real in uids]
        found += [f"mount {mount}" for mount in self._our_mounts() - self._mounts]
        instance = hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:12]
        groups = (folder for folder, _, _ in os.walk("/sys/fs/cgroup"))  # unlike a glob it bears folders that go away
        found += [f"control group {folder}" for folder in groups if folder.endswith(f"/orchestrator-{instance}")]
        return found + [f"file {path}" for path in self.temporary.iterdir()]

    def _our_mounts(self) -> frozenset[str]:
        """Mount points where only we could have made one: below our folder, or where toolchains are staged."""
        places = (str(self.folder), *STAGING_PLACES)
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        points = (line.split()[4] for line in lines)
        return frozenset(point for point in points if f"{point}/".startswith(tuple(f"{place}/" for place in places)))

    # The API and the command line.

    def seen(self, path: Path) -> Path:
        """A path of the daemon's, as this process reaches it."""
        return self.root / path.relative_to("/")

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request as the operator."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        token = self.seen(self.state / "caller-token").read_text(encoding="utf-8")
        given = {"Authorization": f"Bearer {token}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        async with self._session.request(method, self.url + path, json=body, headers=given) as answer:
            return Answer(answer.status, await answer.json(content_type=None), answer.headers)

    def body(self, name: str, script: str, **more: Any) -> dict[str, Any]:
        """A dispatch request whose script can `visit` the witness."""
        environment = self.witness.environment if self.witness else {}
        return {"name": name, "script": PREAMBLE + script, "environment": environment, **more}

    async def dispatch(self, name: str, script: str, *, key: str = "", **more: Any) -> JobId:
        """Dispatch a job that must be taken; its id. The job's name is the idempotency key."""
        answer = await self.call("POST", "/v1/jobs", self.body(name, script, **more), Idempotency_Key=key or name)
        assert answer.status in (200, 202), answer
        job_id = JobId(answer.body["id"])
        if job_id not in self.accepted:
            self.accepted.append(job_id)
        return job_id

    async def job(self, job_id: str) -> dict[str, Any]:
        answer = await self.call("GET", f"/v1/jobs/{job_id}")
        assert answer.status == 200, answer
        return answer.body

    async def until(
        self, job_id: str, reached: Callable[[dict[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """Look at a job until its view is as wanted; the view."""
        view: dict[str, Any] = {}
        try:
            async with asyncio.timeout(seconds):
                while not reached(view := await self.job(job_id)):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not reached within {seconds} s: {view}") from None
        return view

    async def phase(self, job_id: str, *phases: str) -> dict[str, Any]:
        return await self.until(job_id, lambda view: view["phase"] in phases)

    async def finished(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        return await self.until(job_id, lambda view: view["phase"] == "finished", seconds)

    async def command(self, *arguments: str) -> Done:
        """Run `orchestrator ARGUMENTS` as this installation's user."""
        process = await asyncio.create_subprocess_exec(
            *PROGRAM, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=os.environ | {"ORCHESTRATOR_STATE_DIR": str(self.state)},
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    # What is judged afterwards.

    async def history(self) -> dict[JobId, Sequence[Fact]]:
        """All facts of all jobs, from a copy of the journal's files; no daemon may run."""
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for file in self.seen(self.state).glob("journal.db*"):
            shutil.copyfile(file, copy / file.name)
        journal = await SqliteJournal.open(copy / "journal.db", SystemClock())
        try:
            lines = await journal.jobs(JobQuery(limit=1000))
            return {line.job_id: await journal.facts_of(line.job_id) for line in lines}
        finally:
            await journal.close()

    async def broken_promises(self, *, at_rest: bool = True) -> list[str]:
        """The checker's verdict over the recorded history and what the witness saw; empty is what we promise."""
        assert self.witness is not None
        history = await self.history()
        bound = {
            fact.job_id: fact.event.uid
            for facts in history.values()
            for fact in facts
            if isinstance(fact.event, RunnerBound)
        }
        # A script does not know its runner's uid: its first run is the bound runner's, any other is nobody's.
        runs = dict.fromkeys((JobId(visit.job_id), visit.run) for visit in self.witness.visits)
        handed_out = [(job_id, bound.pop(job_id, run)) for job_id, run in runs]
        private = self.seen(self.state / "keys" / "evidence" / "evidence.pem").read_bytes()
        public = load_pem_private_key(private, None).public_key()
        return [
            *broken_promises(World(list(self.accepted), handed_out), history, at_rest=at_rest),
            *wrong_receipts(history, {key_id(public): public}),
        ]


async def broken_traces(receiver: OtlpReceiver, views: Sequence[dict[str, Any]], seconds: float = 30) -> list[str]:
    """What is wrong with the traces of these finished jobs, as the receiver got them; empty is what we promise."""
    wanted = {view["trace_id"]: view["id"] for view in views}
    async with asyncio.timeout(seconds):
        while wanted.keys() - {span.trace_id.hex() for span in receiver.spans}:
            await receiver.wait_for_spans(len(receiver.spans) + 1, seconds)
    problems = []
    for trace, job_id in wanted.items():
        spans = {span.span_id: span for span in receiver.spans if span.trace_id.hex() == trace}
        roots = [span.name for span in spans.values() if not span.parent_span_id]
        if len(roots) != 1:
            problems.append(f"{job_id}: roots {roots}")
        problems += [
            f"{job_id}: {span.name} hangs below nothing"
            for span in spans.values()
            if span.parent_span_id and span.parent_span_id not in spans
        ]
        problems += [
            f"{job_id}: {span.name} is not ended"
            for span in spans.values()
            if not 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        ]
    return problems


def _is_agent(process: psutil.Process) -> bool:
    try:
        return process.name().startswith("python")
    except psutil.Error:
        return False


def _pid_in(about: Path) -> int:
    try:
        return int(json.loads(about.read_bytes())["pid"])
    except (OSError, ValueError):
        return 0
