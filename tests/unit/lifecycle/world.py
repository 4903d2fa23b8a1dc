"""A daemon around in-memory ports that can be killed between any two of its actions and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.daemon.records.receipt import Receipts
from orchestrator.errors import OrchestratorError, TryAgainError
from orchestrator.evidence.receipts.making import Signer
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.observation import Deadlines
from orchestrator.lifecycle.ports import RunnerIdentity, Withdrawn
from orchestrator.lifecycle.recovery import recover
from orchestrator.lifecycle.sweep import Sweep
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.events import Event, ExchangeDecided, Fact, SpansRelayed, TokenIssued
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.journey import Journey
from orchestrator.model.platform import PlatformJob, PlatformResult
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerView, runner_name
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.checker import World
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.source import MemorySource

PROOF = EgressProof(denied=("metadata", "direct"))
POOL = PoolName("default")
KEY = generate_evidence_key()
SIGNER = Signer("https://ci.example", "0", 60)


PLATFORM_HOST = EgressRule("platform.example")
REGISTRY = EgressRule("registry.example")


def offer(
    number: int = 1, *, caller: str = "alice", fingerprint: str = "f", timeout: int = 0, awaits: bool = False
) -> JobOffer:
    return JobOffer(
        key=JobKey("memory", f"job-{number}"),
        spec=JobSpec(
            name=f"job {number}",
            pool=POOL,
            script="true",
            timeout_seconds=timeout,
            awaits_platform_job=awaits,
            platform_egress=(PLATFORM_HOST, EgressRule("not-in-the-pool.example")) if awaits else (),
        ),
        caller=Caller("https://issuer.example", caller),
        fingerprint=fingerprint,
    )


def platform_job(number: int, *, refused: bool = False) -> PlatformJob:
    """One of the platform's jobs; a daemon whose policy is `by_fact` refuses it if told so."""
    facts = {"repository": "octo/site", "run_id": str(number)} | ({"refused": "true"} if refused else {})
    caller = Caller("https://platform.example", f"repo:octo/site:run:{number}", facts)
    return PlatformJob(f"platform.example/1/{number}/1/{number}", f"build {number}", caller, "ci.yml", proof="oidc")


def by_fact(record: Record) -> Verdict:
    return Verdict.DENY if "refused" in record.offer.caller.facts else Verdict.ALLOW


def pool(capacity: int = 2, *, proof: bool = True) -> Pool:
    return Pool(
        POOL,
        "memory",
        TrustTier.STANDARD,
        capacity,
        "memory",
        "none",
        egress=(PLATFORM_HOST, REGISTRY),
        require_egress_proof=proof,
        max_job_seconds=600,
    )


class Gate:
    """Kills the daemon at its n-th action: from then on none of its calls ever returns."""

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


class GatedJournal:
    def __init__(self, journal: MemoryJournal, gate: Gate) -> None:
        self._journal, self._gate = journal, gate

    async def append(self, facts: Sequence[tuple[JobId, Event]]) -> Sequence[Fact]:
        await self._gate.pass_through()
        stored = await self._journal.append(facts)
        await self._gate.pass_through()
        return stored

    async def live(self) -> Sequence[Sequence[Fact]]:
        return await self._journal.live()

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]:
        return await self._journal.facts_of(job_id)

    async def job_named(self, key: str) -> JobId | None:
        await self._gate.pass_through()
        return await self._journal.job_named(key)


class GatedBackend:
    def __init__(self, backend: MemoryBackend, gate: Gate) -> None:
        self._backend, self._gate = backend, gate

    async def create(self, spec: RunnerSpec) -> RunnerView:
        await self._gate.pass_through()
        view = await self._backend.create(spec)
        await self._gate.pass_through()
        return view

    def journey(self, name: RunnerName) -> Journey | None:
        return self._backend.journey(name)

    async def inspect(self, name: RunnerName) -> RunnerView:
        await self._gate.pass_through()
        return await self._backend.inspect(name)

    async def delete(self, name: RunnerName) -> None:
        await self._gate.pass_through()
        await self._backend.delete(name)
        await self._gate.pass_through()

    async def list(self) -> Sequence[RunnerView]:
        return await self._backend.list()

    def subscribe(self, changed) -> None:
        self._backend.subscribe(changed)


class GatedPolicy:
    """`turns` of the loop pass before it answers."""

    def __init__(self, policy: FixedPolicy, daemon: Daemon) -> None:
        self._policy, self._daemon = policy, daemon
        self.turns = 0

    async def admit(self, record: Record, its_pool: Pool) -> Decision:
        await self._daemon.gate.pass_through()
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await self._policy.admit(record, its_pool)

    async def exchange(self, record: Record, its_pool: Pool, audience: str) -> Decision:
        return await self._policy.exchange(record, its_pool, audience)


class Daemon:
    """One life of the daemon after another over the same journal, backend and source."""

    def __init__(
        self,
        *,
        capacity: int = 2,
        verdict: Verdict = Verdict.ALLOW,
        verdict_of=None,
        max_jobs: int = 100,
        receipts: bool = False,
    ):
        self.clock = SteppedClock()
        self.journal = MemoryJournal(self.clock)
        self.backend = MemoryBackend(self.clock)
        self.source = MemorySource()
        self.policy = GatedPolicy(FixedPolicy(verdict, verdict_of), self)
        self.world = World()
        self.pools = {POOL: pool(capacity)}
        self.max_jobs = max_jobs
        self.lives = 0
        self.revoked: list[JobId] = []
        self.receipts = receipts
        self.tokens = 0
        self.signed: list[tuple[JobId, str]] = []

    async def start(self) -> None:
        self.lives += 1
        self.gate = Gate()
        journal = GatedJournal(self.journal, self.gate)
        backend = GatedBackend(self.backend, self.gate)
        sealer = Receipts(self.journal, lambda: self.engine, KEY, SIGNER, self.clock) if self.receipts else None
        self.sealer = sealer
        performer = Performer(self.policy, {"memory": backend}, {"memory": self.source}, [self], [], sealer)
        self.engine = Engine(
            journal=journal,
            performer=performer,
            pools=self.pools,
            clock=self.clock,
            deadlines=Deadlines(),
            max_jobs=self.max_jobs,
        )
        backend.subscribe(self.engine.runner_changed)
        self._unsubscribe = self.journal.subscribe(self._recorded)
        self.sweep = Sweep(self.engine, {"memory": backend})
        self.sweeping: asyncio.Task | None = None
        while True:  # a daemon whose journal is away does not start; its supervisor starts it again
            try:
                await recover(self.journal, self.engine, f"life-{self.lives}")
                break
            except TryAgainError:
                continue
        await self.settle()

    async def start_sweep(self) -> None:
        """A sweep in the background: a slow backend holds it up until time passes."""
        if self.sweeping is None or self.sweeping.done():
            self.sweeping = asyncio.ensure_future(self.sweep.run())
        await self.settle()

    async def revoke(self, record: Record) -> list[Withdrawn]:
        self.revoked.append(record.id)
        return [Withdrawn("tester", "told")]

    async def kill(self) -> None:
        self.gate.killed.set()
        if self.sweeping:
            self.sweeping.cancel()
        await self.engine.close()
        self.backend.unwatch()
        self._unsubscribe()

    async def settle(self) -> None:
        """Let everything run that can run without time passing; a killed daemon is started again by the caller."""
        for _ in range(100):
            await asyncio.sleep(0)

    async def offer(self, job: JobOffer) -> Record | None:
        try:
            record, _ = await self._unless_killed(self.engine.offer(job))
        except (OrchestratorError, TimeoutError):
            return None
        self.world.accepted.append(record.id)
        return record

    async def claim(self, name: RunnerName, proof: EgressProof = PROOF) -> bool:
        """The agent of a runner asks for its work, as often as it likes."""
        uid = self.backend.view(name).uid
        try:
            record = await self._unless_killed(self.engine.claim(RunnerIdentity(name, uid), proof))
        except (OrchestratorError, TimeoutError):
            return False
        self.world.handed_out.append((record.id, uid))
        return True

    async def claim_cut_off(self, name: RunnerName, turns: int, proof: EgressProof = PROOF) -> None:
        """The agent's connection breaks after so many turns of the loop, wherever its claim is then."""
        uid = self.backend.view(name).uid
        task = asyncio.ensure_future(self.engine.claim(RunnerIdentity(name, uid), proof))
        record = await self._cut_off(task, turns)
        if record is not None:
            self.world.handed_out.append((record.id, uid))

    async def name_job(self, name: RunnerName, job: PlatformJob) -> str:
        """The platform says which job a runner got; the answer is the reason word of a refusal, or `named`."""
        return await self._said(self.engine.name_job(name, job), "named")

    async def complete_job(self, name: RunnerName, result: str = "succeeded") -> str:
        return await self._said(self.engine.complete_job(name, PlatformResult(result, "message")), "completed")

    async def _said(self, call, word: str) -> str:
        try:
            await self._unless_killed(call)
        except OrchestratorError as error:
            return error.reason
        except TimeoutError:
            return "killed"
        return word

    async def name_cut_off(self, name: RunnerName, job: PlatformJob, turns: int) -> None:
        await self._cut_off(asyncio.ensure_future(self.engine.name_job(name, job)), turns)

    async def offer_cut_off(self, job: JobOffer, turns: int) -> None:
        answer = await self._cut_off(asyncio.ensure_future(self.engine.offer(job)), turns)
        if answer is not None:
            self.world.accepted.append(answer[0].id)

    async def cancel_cut_off(self, job_id: JobId, turns: int) -> None:
        await self._cut_off(asyncio.ensure_future(self.engine.cancel(job_id, "tester")), turns)

    async def note_cut_off(self, job_id: JobId, turns: int) -> None:
        await self._cut_off(asyncio.ensure_future(self.engine.note(job_id, SpansRelayed(1, 0))), turns)

    async def _cut_off(self, task, turns: int):
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return None if task.cancelled() or task.exception() else task.result()

    async def get_token(self, name: RunnerName) -> bool:
        """As the exchange does it: facts first, and a token only if the identity still counts then."""
        identity = RunnerIdentity(name, self.backend.view(name).uid)
        record = self.engine.bound_record(identity)
        if record is None or not record.live:
            return False
        self.tokens += 1
        decision = Decision(f"exchange-{self.tokens}", Stage.EXCHANGE, Verdict.ALLOW)
        issued = TokenIssued(f"jti-{self.tokens}", "cloud", record.id, "RS256", "key", 1, 2, session_expires_at=3)
        try:
            await self._unless_killed(self.engine.note(record.id, ExchangeDecided("cloud", decision), issued))
        except (OrchestratorError, TimeoutError):
            return False
        if not self.use_identity(name):
            return False
        self.signed.append((record.id, issued.jti))
        return True

    def use_identity(self, name: RunnerName) -> bool:
        record = self.engine.bound_record(RunnerIdentity(name, self.backend.view(name).uid))
        if record is None or not record.live:
            return False
        self.world.identity_uses.append((record.id, self.clock.tick()))
        return True

    def _recorded(self, facts: Sequence[Fact]) -> None:
        """Facts are durable from here on, and the engine does not know it yet: the job tries to use its identity."""
        if not self.gate.killed.is_set():
            for fact in facts:
                self.use_identity(runner_name(fact.job_id))

    async def history(self) -> dict[JobId, Sequence[Fact]]:
        return {line.job_id: await self.journal.facts_of(line.job_id) for line in await self._all_lines()}

    async def _all_lines(self):
        from orchestrator.journal.port import JobQuery

        return await self.journal.jobs(JobQuery(limit=500))

    async def _unless_killed(self, call):
        """The caller sees a broken connection when the daemon dies under its request."""
        task = asyncio.ensure_future(call)
        killed = asyncio.ensure_future(self.gate.killed.wait())
        await asyncio.wait({task, killed}, return_when=asyncio.FIRST_COMPLETED)
        killed.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise TimeoutError
        return task.result()
