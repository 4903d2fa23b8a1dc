"""A daemon as a process that listens to GitHub: its test server is here, its runners are in real sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import psutil
from installation import Installation
from witness import PREAMBLE, PYTHON, Witness

from orchestrator.model.events import Fact, PlatformJobNamed
from orchestrator.model.job import JobId
from orchestrator.model.outcome import Outcome
from orchestrator.model.record import Record, fold
from orchestrator.testing.github.model import Job, JobPlan, Options, Run, Runner, ScaleSet, Step
from orchestrator.testing.github.runner_folder import lay_out
from orchestrator.testing.github.server import GitHubServer

SOURCE: Final = "acme"
SET: Final = "zt"
HOST: Final = "github.test.internal"
REPOSITORY: Final = "acme/shop"
GATED: Final = "visit started\nvisit gate\nvisit done\n"
POLL, ACKNOWLEDGE = "GET /scalesets/message", "DELETE /scalesets/message"
JIT, ONLINE, LISTEN, REPORT = "generatejitconfig", "/_broker/session", "GET /_broker/message", "/_broker/complete"
JOBS: Final = "GET /repos/{owner}/{repo}/actions/runs/{id}/jobs"
LOST_SECONDS: Final = 700
"""By then GitHub gives up a runner that it does not hear of, and the job on it."""


class GitHubSite:
    """`here` serves one scale set of `github`; their jobs may reach GitHub and the witness.

    `secrets` are those of all runners that were ever registered, `stopped` the parts that `freeze` has stopped.
    """

    def __init__(self, here: Installation, github: GitHubServer, witness: Witness, **settings: Any) -> None:
        self.here, self.github, self.witness = here, github, witness
        self.secrets: set[str] = note_secrets(github)
        self.stopped: list[psutil.Process] = []
        self.configure(**settings)

    def configure(
        self, *, capacity: int = 2, app: bool = True, deadlines: dict[str, float] | None = None, **settings: Any
    ) -> None:
        """`app` asks for tokens as a GitHub App does, whose clock must be GitHub's; else there is a personal token."""
        here, github = self.here, self.github
        runner = lay_out(here.folder / "runner", PYTHON)
        key = here.folder / "app.pem"
        key.write_text(github.app.private_key, encoding="ascii")
        key.chmod(0o600)
        rule = {"host": HOST, "port": github.port, "protocol": "http"}
        token = here.folder / "token"
        token.write_text(github.personal_token, encoding="ascii")
        token.chmod(0o600)
        credential: dict[str, Any] = {"token_file": str(token)}
        if app:
            ids = {"client_id": github.app.client_id, "installation_id": int(github.app.installation_id)}
            credential = {"app": {**ids, "private_key_file": str(key)}}
        pool = {
            "name": "default",
            "capacity": capacity,
            "egress": [self.witness.rule, rule],
            "sandbox": {"host_uid_base": here.uid_base, "toolchain": [str(runner.parent)]},
        }
        source = {
            "name": SOURCE,
            "url": github.config_url("acme"),
            **credential,
            "hosts": [rule],
            "scale_sets": [{"name": SET, "pool": "default", "runner_command": [str(runner)]}],
        }
        names = {rule["host"]: "127.0.0.1", self.witness.rule["host"]: "127.0.0.1"}
        limits = {"completion_seconds": 3, "refusal_seconds": 2, "sweep_seconds": 2} | (deadlines or {})
        here.configure(pools=[pool], github=[source], egress={"names": names}, deadlines=limits, **settings)

    # What happens at GitHub.

    def dispatch(self, script: str = GATED, *, jobs: int = 1, **more: Any) -> Run:
        """A run whose jobs do as the script says, which can `visit` the witness."""
        run_more = {name: more.pop(name) for name in ("ref",) if name in more}
        step = Step(PREAMBLE + script, environment=self.witness.environment)
        plans = [JobPlan(f"job-{number}", (SET,), (step,), **more) for number in range(jobs)]
        return self.github.dispatch_workflow(REPOSITORY, plans, **run_more)

    @property
    def scale_set(self) -> ScaleSet:
        (one,) = self.github.state.sets.values()
        return one

    @property
    def runners(self) -> list[Runner]:
        return list(self.github.state.runners.values())

    def calls(self, part: str) -> int:
        """How many requests of an endpoint with `part` in it have come."""
        return sum(number for endpoint, number in self.github.counters.items() if part in endpoint)

    async def called(self, part: str, more_than: int = 0) -> None:
        await self.github.until(lambda: self.calls(part) > more_than)

    async def listening(self) -> None:
        """The daemon has its session and asks for messages."""
        await self.github.until(
            lambda: any(one.session and one.session.polls for one in self.github.state.sets.values())
        )

    async def gated(self, count: int = 1) -> None:
        """So many jobs stand at the witness's gate."""
        await self.witness.until(lambda: sum(visit.word == "gate" for visit in self.witness.visits) >= count, 60)

    async def done(self, run: Run, seconds: float = 60) -> None:
        try:
            await self.github.until(lambda: run.done, seconds)
        except TimeoutError:
            raise AssertionError(f"{[(job.state, job.rounds) for job in run.jobs]}: {self.tail()}") from None

    async def lose(self) -> None:
        """Time passes at GitHub until it gives up the runners that died with a daemon."""
        await self.github.clock.step(LOST_SECONDS)

    # What happens here.

    def freeze(self, part: str) -> None:
        """Stop a part of the daemon; a `kill` lets it go on, to find that its daemon is gone."""
        self.stopped.append(self.here.part(part))
        self.stopped[-1].suspend()

    async def kill(self) -> None:
        """SIGKILL of the daemon, after which nothing of it may be left before the next one."""
        if self.here.process is not None:
            await self.here.kill()
        for part in self.stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                part.resume()
        self.stopped.clear()
        assert await self.here.left() == []

    # What the daemon says.

    async def lines(self) -> list[dict[str, Any]]:
        """The list's line of each job of the source, the newest first."""
        listed = (await self.here.call("GET", "/v1/jobs?limit=200")).body["jobs"]
        return [line for line in listed if line["id"].startswith(f"{SOURCE}.")]

    async def records_until(self, reached: Callable[[list[dict[str, Any]]], bool], seconds: float = 60) -> None:
        found: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(seconds):
                while not reached(found := await self.lines()):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {found}; {self.tail()}") from None

    async def at_rest(self, seconds: float = 60) -> None:
        """Every record of the source is finished, and so are GitHub's registrations."""
        await self.records_until(lambda lines: all(line["phase"] == "finished" for line in lines), seconds)
        try:
            await self.github.until(lambda: not self.github.state.runners, 20)
        except TimeoutError:
            raise AssertionError(f"registered: {[one.name for one in self.runners]}; {self.tail()}") from None

    def tail(self) -> str:
        lines = self.here.log.read_text("utf-8").splitlines()
        return "\n".join(line for line in lines if "server.access" not in line)[-4000:]

    # What is judged afterwards; no daemon may run.

    async def records(self) -> list[Record]:
        return [fold(facts) for facts in (await self.facts()).values()]

    async def facts(self) -> dict[JobId, list[Fact]]:
        """Of each record of the source, the oldest first."""
        history = await self.here.history()
        ours = {job: list(facts) for job, facts in history.items() if fold(facts).offer.key.source == SOURCE}
        return dict(sorted(ours.items(), key=lambda item: item[1][0].at_ns))

    async def named(self) -> list[tuple[str, Outcome | None]]:
        """Key of the platform's job, and its record's end, of each record that was named."""
        return [
            (fact.event.job.key, fold(facts).outcome)
            for facts in (await self.facts()).values()
            for fact in facts
            if isinstance(fact.event, PlatformJobNamed)
        ]

    async def wrong(self, *, session: bool = False) -> list[str]:
        """What breaks a promise, by the checker and by what GitHub saw; empty is what we promise."""
        self.here.accepted = list(await self.here.history())
        problems = await self.here.broken_promises()
        state = self.github.state
        problems += [f"P1: GitHub's job {job.plan.name} is {job.state}" for job in state.jobs.values() if not job.done]
        problems += [f"P2: GitHub started {job.plan.name} {job.starts} times" for job in self._twice()]
        problems += [f"P3: {runner.name} is still registered" for runner in state.runners.values()]
        if not session:
            problems += [f"P3: the session of {one.name} is open" for one in state.sets.values() if one.session]
        return problems + [f"a registration's secret lies in {path}" for path in self._leaks()]

    def _twice(self) -> Iterable[Job]:
        return (job for job in self.github.state.jobs.values() if job.starts > 1)

    def _leaks(self) -> list[Path]:
        """Files of the daemon that hold a runner's secret; a runner's own program does not say it either."""
        held = [secret.encode() for secret in self.secrets]
        files = [self.here.log, *(path for path in self.here.state.rglob("*") if path.is_file())]
        return [path for path in files if any(secret in path.read_bytes() for secret in held)]

    def words(self) -> list[list[str]]:
        """What each run of a script told the witness, in order of arrival."""
        runs = dict.fromkeys(visit.run for visit in self.witness.visits)
        return [[visit.word for visit in self.witness.visits if visit.run == run] for run in runs]


def note_secrets(github: GitHubServer) -> set[str]:
    """Collects what runners prove themselves with from now on."""
    found: set[str] = set()
    register = github.state.register

    def noted(*arguments: Any, **named: Any) -> Runner:
        runner = register(*arguments, **named)
        found.add(runner.secret)
        return runner

    github.state.register = noted  # type: ignore[method-assign]
    return found


def deafen(github: GitHubServer, kind: str) -> None:
    """From now on no message of this kind is told."""
    assignment = github.state.assignment
    tell = assignment._tell

    def some(one: ScaleSet, job: Job, told: str, **extra: Any) -> None:
        if told != kind:
            tell(one, job, told, **extra)

    assignment._tell = some  # type: ignore[method-assign]


def github_server(port: int, **options: Any) -> GitHubServer:
    """`acme/shop` with a protected `main`; runners reach it by its name through the gateway."""
    server = GitHubServer(Options(**options), port=port, runner_url=f"http://{HOST}:{port}")
    server.add_repository(REPOSITORY, branches={"main": True, "topic": False})
    return server


async def eventually(true: Callable[[], bool], seconds: float = 60) -> None:
    """Look until it is true; for what nobody tells of."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "not in time"
        await asyncio.sleep(0.02)
