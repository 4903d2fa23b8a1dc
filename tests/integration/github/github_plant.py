"""GitHub's test server, the real client, the real engine, and runners that do as GitHub's own program does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest import mock

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.records.receipt import Receipts
from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.evidence.receipts.document import Receipt
from orchestrator.evidence.receipts.making import Signer
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.intake.github import fact_finder
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import GitHubConnection, TokenCredential
from orchestrator.intake.github.connection import Timing as ClientTiming
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.names import runner_of
from orchestrator.intake.github.scale_sets.source import GitHubSource
from orchestrator.intake.github.source_config import ForgetfulNotes, ScaleSetConfig, SourceConfig, SourceTiming
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import SECOND, Deadlines
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.lifecycle.recovery import recover
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import ReceiptSigned
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState, RunnerView
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.checker import World, broken_promises
from orchestrator.testing.github.model import Flavour, JobPlan, Options, Run, ScaleSet
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.receipts import wrong_receipts

EVIDENCE_KEY = generate_evidence_key()
SIGNER = Signer("https://ci.example", "0", 60)
POOL = PoolName("linux")
SOURCE = "acme"
PROOF = EgressProof(denied=("metadata", "direct"))
QUICK = SourceTiming(
    pace=0.0,
    surplus_grace=0.2,
    retry_first=0.01,
    retry_longest=0.05,
    fill_first=0.02,
    fill_longest=0.1,
    capacity_pace=0.02,
    acquirable_pace=0.05,
    naming_limit=10.0,
    hook_patience=0.0,
    end_grace=0.1,
    sweep=3600.0,
    busy_limit=0.5,
    close=1.0,
    poll_limit=20.0,
)
DEADLINES = Deadlines(
    naming_ns=10 * SECOND, refusal_ns=SECOND // 5, completion_ns=SECOND, teardown_ns=5 * SECOND, call_ns=5 * SECOND
)


async def soon(seconds: float) -> None:
    """The client's waits between retries, shortened: what they wait for comes at once here."""
    await asyncio.sleep(min(seconds, 0.01))


def options(flavour: Flavour = Flavour.HOSTED) -> Options:
    return Options(flavour=flavour, poll_hold=2.0)


class Gate:
    """Kills the daemon at its n-th call: from then on none of its calls ever returns."""

    def __init__(self) -> None:
        self.passes_left: int | None = None
        self.killed = asyncio.Event()

    async def pass_through(self) -> None:
        if self.passes_left is not None:
            if self.passes_left <= 0:
                self.killed.set()
            self.passes_left -= 1
        if self.killed.is_set():
            await asyncio.get_running_loop().create_future()


class Gated:
    """Another object whose coroutines pass through the gate before and after; all else is as it is there."""

    def __init__(self, behind, gate: Gate) -> None:
        self._behind, self._gate = behind, gate

    def __getattr__(self, name: str):
        found = getattr(self._behind, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments, **named):
            await self._gate.pass_through()
            answer = await found(*arguments, **named)
            await self._gate.pass_through()
            return answer

        return call


class Cluster(MemoryBackend):
    """Starts an agent in every runner that is made, once."""

    def __init__(self, clock: SystemClock, begin: Callable[[RunnerName, str], None]) -> None:
        super().__init__(clock)
        self._begin = begin

    async def create(self, spec: RunnerSpec) -> RunnerView:
        view = await super().create(spec)
        self._begin(view.name, view.uid)
        return view


class Plant:
    """One GitHub, one cluster, one journal; one life of the daemon after another.

    `behave` is what every runner does once it has its registration; `lives` counts daemons.
    """

    def __init__(self, github: GitHubServer, *, capacity: int = 4, timing: SourceTiming = QUICK) -> None:
        self.github = github
        self.clock = SystemClock()
        self.journal = MemoryJournal(self.clock)
        self.backend = Cluster(self.clock, self._begin)
        self.policy = FixedPolicy()
        self.notes = ForgetfulNotes()
        self.timing = timing
        self.pools = {POOL: Pool(POOL, "memory", TrustTier.STANDARD, capacity, "memory", "none", max_job_seconds=600)}
        self.sets = (ScaleSetConfig(name="zt", pool=POOL, script="exec runner"),)
        self.behave: Callable[[Plant, RunnerName], object] = Plant.do_job
        self.handed_out: list[tuple[JobId, str]] = []
        self.names_out: list[str] = []
        self.poll_seconds = 5.0
        self.hook = False
        self.deadlines = DEADLINES
        self.lives = 0
        self._alive: set[str] = set()
        self._programs: set[asyncio.Task] = set()

    # --- the daemon ---

    async def start(self, *, gate: Gate | None = None) -> None:
        self.lives += 1
        self.gate = gate or Gate()
        url = parse_github_url(self.github.config_url("acme"))
        credential = TokenCredential(lambda: self.github.personal_token)
        connection = GitHubConnection(url, credential, timeout_seconds=2.0, poll_seconds=self.poll_seconds)
        self.client = GitHub(connection, ClientTiming(sleep=soon))
        self.client.actions = Gated(self.client.actions, self.gate)
        facts = JobFacts(Gated(self.client.rest, self.gate), url, url.oidc_issuer, time.monotonic)
        self.source = GitHubSource(
            config=SourceConfig(
                name=SOURCE, issuer=url.text, owner="orchestrator", scale_sets=self.sets, timing=self.timing
            ),
            github=self.client,
            facts=facts,
            engine=lambda: Gated(self.engine, self.gate),
            free=self.free,
            notes=self.notes,
        )
        performer = self.performer()
        self.engine = Engine(
            journal=self.journal, performer=performer, pools=self.pools, clock=self.clock, deadlines=self.deadlines
        )
        self.backend.subscribe(self.engine.runner_changed)
        await recover(self.journal, self.engine, f"life-{self.lives}")
        await self.source.start()

    def performer(self) -> Performer:
        """Of this life's source and engine."""
        sealer = Receipts(self.journal, lambda: self.engine, EVIDENCE_KEY, SIGNER, self.clock)
        return Performer(self.policy, {"memory": self.backend}, {SOURCE: self.source}, [self.source], [], sealer)

    def free(self, pool: PoolName) -> int:
        slots = self.engine.slots(pool)
        return self.pools[pool].capacity - slots.held - slots.waiting

    async def stop(self) -> None:
        await self.source.stop()
        await self.engine.close()
        await self.client.close()

    async def kill(self) -> None:
        """The process is gone: nobody says goodbye, and what was under way never comes back."""
        self.gate.killed.set()
        self.backend.unwatch()
        task = self.source._task
        for one in self.source._sets.values():
            one.keeper.session = None
        task.cancel()
        await asyncio.wait([task])
        await self.engine.close()
        await self.client.close()

    # --- runners ---

    def _begin(self, name: RunnerName, uid: str) -> None:
        if uid not in self._alive:
            self._alive.add(uid)
            task = asyncio.ensure_future(self._agent(name, uid))
            self._programs.add(task)
            task.add_done_callback(self._programs.discard)

    async def _agent(self, name: RunnerName, uid: str) -> None:
        """Claims the work as the agent does, then runs what it got."""
        await asyncio.sleep(0)
        code = 1
        with contextlib.suppress(OrchestratorError, TimeoutError):
            async with asyncio.timeout(5):
                record = await self._claim(name, uid)
                gate = self.gate
                work = asyncio.ensure_future(self.source.work_files(record))
                killed = asyncio.ensure_future(gate.killed.wait())
                await asyncio.wait({work, killed}, return_when=asyncio.FIRST_COMPLETED)
                killed.cancel()
                if not work.done():
                    work.cancel()
                    raise TimeoutError
                assert work.result()["jitconfig"]
                self.handed_out.append((record.id, uid))
            async with asyncio.timeout(60):
                code = await self.behave(self, name)
        self.backend.exit(name, code)

    async def _claim(self, name: RunnerName, uid: str) -> Record:
        while True:
            try:
                return await self.engine.claim(RunnerIdentity(name, uid), PROOF)
            except OrchestratorError as error:
                if self.backend.view(name).uid != uid or error.reason in ("already_bound", "job_ended"):
                    raise
                await asyncio.sleep(0.01)

    def registered(self, name: RunnerName):
        """The registration at GitHub of this runner of ours, if there is one."""
        return next((one for one in self.github.state.runners.values() if runner_of(one.name) == name), None)

    async def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Conditions of ours, which GitHub does not tell of: looked at every few milliseconds, for a bounded time."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    async def take_job(self, name: RunnerName):
        """Come online and wait until GitHub gives a job, or takes the registration away."""
        runner = self.registered(name)
        if runner is None:
            return None
        self.github.state.come_online(runner)
        await self.until(
            lambda: (
                runner.busy
                or runner.id not in self.github.state.runners
                or self.backend.view(name).state is RunnerState.ABSENT
            ),
            60,
        )
        return runner

    async def do_job(self, name: RunnerName, *, result: str = "succeeded") -> int:
        runner = await self.take_job(name)
        if runner is None or not runner.busy:
            return 0
        record = self.engine.record_of_runner(name)
        self.names_out.append(runner.job.key)
        # The hook holds the job back until it has a name, as long as somebody is there to give one.
        run_id = runner.job.run.id
        async with asyncio.timeout(20):
            while not self._named(name):
                if self.hook:
                    with contextlib.suppress(TryAgainError):
                        await self.source.naming.reported(name, "acme/shop", run_id)
                await asyncio.sleep(0.01)
        assert record is not None
        record = self.engine.record_of_runner(name) or record
        if record.refused is not None:
            result = "failed"  # its hook has told why
        self.github.state.finish(runner, result)
        return 0

    def _named(self, name: RunnerName) -> bool:
        record = self.engine.record_of_runner(name)
        return record is None or bool(record.named_at_ns) or record.outcome is not None

    # --- what came of it ---

    def dispatch(self, jobs: int = 1, **more) -> Run:
        plans = [JobPlan(f"job {number}", labels=("zt",)) for number in range(jobs)]
        return self.github.dispatch_workflow("acme/shop", plans, **more)

    @property
    def scale_set(self) -> ScaleSet:
        return next(iter(self.github.state.sets.values()))

    async def records(self) -> list[Record]:
        return [fold(facts) for facts in await self.history_values()]

    async def receipts(self) -> list[Receipt]:
        """Of the finished records, in the order of their offers."""
        signed = [fact.event for facts in await self.history_values() for fact in facts]
        keys = {EVIDENCE_KEY.id: EVIDENCE_KEY.public}
        return [open_receipt(envelope_of(event), keys)[0] for event in signed if isinstance(event, ReceiptSigned)]

    async def history_values(self):
        return [facts for facts in self.journal._facts.values() if facts]

    async def at_rest(self, seconds: float = 15) -> None:
        """Until the engine has nothing left to do."""
        await self.until(lambda: not self.engine.live_ids(), seconds)

    async def assert_kept(self) -> list[Record]:
        """P1 to P4 over the recorded history, and nothing left at GitHub. Returns the records."""
        records = await self.records()
        history = {record.id: facts for record, facts in zip(records, await self.history_values(), strict=True)}
        world = World(
            accepted=[record.id for record in records], handed_out=self.handed_out, remaining=self.backend.names()
        )
        assert broken_promises(world, history) == []
        problems = wrong_receipts(history, {EVIDENCE_KEY.id: EVIDENCE_KEY.public})
        assert problems == [], problems
        assert not self.github.state.runners, "a registration is left at GitHub"
        return records

    def pool_of(self, **changes) -> None:
        self.pools[POOL] = replace(self.pools[POOL], **changes)


def succeeded(records: list[Record]) -> list[Record]:
    return [record for record in records if record.outcome is not None and record.outcome.result.value == "success"]


@asynccontextmanager
async def plant_of(
    flavour: Flavour = Flavour.HOSTED, *, start: bool = True, jobs_seconds: float = 0.02, **more
) -> AsyncIterator[Plant]:
    """`jobs_seconds` is the least time between two looks at one run's jobs, in production two seconds."""
    quick_facts = mock.patch.object(fact_finder, "JOBS_SECONDS", jobs_seconds)
    async with GitHubServer(options(flavour)) as github:
        github.add_repository("acme/shop", branches={"main": True})
        plant = Plant(github, **more)
        try:
            with quick_facts:
                if start:
                    await plant.start()
                yield plant
        finally:
            programs = list(plant._programs)
            for program in programs:
                program.cancel()
            await asyncio.gather(*programs, return_exceptions=True)
            if plant.lives:
                with contextlib.suppress(Exception):
                    await plant.stop()


async def over_a_kill(plant: Plant, gate: Gate, run: Run) -> bool:
    """Until the run is done, with the daemon started again when its gate killed it; whether that happened."""
    killed = asyncio.ensure_future(gate.killed.wait())
    done = asyncio.ensure_future(plant.github.until(lambda: run.done, 20))
    await asyncio.wait({killed, done}, return_when=asyncio.FIRST_COMPLETED)
    killed.cancel()
    was_killed = gate.killed.is_set()
    gate.passes_left = None
    if was_killed:
        await plant.kill()
        await plant.start()
    await done
    return was_killed
