"""What a runner reaches follows its record: looked at after facts and again and again, and never more than it says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from orchestrator.daemon import egress_keeper as keeper_module
from orchestrator.daemon.adapters import EgressAdapter
from orchestrator.daemon.cluster.egress import ClusterEgress
from orchestrator.daemon.egress_keeper import EgressKeeper
from orchestrator.egress import hub as hub_module
from orchestrator.egress.config import GatewayConfig
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.decision import Decision, Obligations, Stage, Verdict
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import Fact, JobCancelRequested, PlatformJobNamed
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformJob, PlatformState
from orchestrator.model.record import Record
from orchestrator.model.runner import runner_name
from orchestrator.server.deps import HookReport

NARROW, WIDE = (EgressRule("forge.test"),), (EgressRule("forge.test"), EgressRule("cache.test"))
REPORT = HookReport("1", "1", "acme/shop")


def record_of(name: str = "a", rules=NARROW, phase: Phase = Phase.RUNNING, *, awaits: bool = True) -> Record:
    offer = JobOffer(JobKey("forge", name), JobSpec("j", PoolName("p"), "s"), Caller("i", "s"))
    return Record(
        offer=offer,
        offered_at_ns=1,
        phase=phase,
        obligations=Obligations(rules),
        runner=runner_name(offer.key.id),
        backend="here",
        bound_uid="uid",
        platform=PlatformState() if awaits else None,
    )


@dataclass
class Engine:
    records: dict[str, Record]
    doubt: bool = False

    def live_ids(self):
        return list(self.records)

    def record(self, job_id):
        return self.records.get(job_id)

    async def current(self, job_id):
        if self.doubt:
            raise TryAgainError("no", reason="journal_unavailable")
        return self.records.get(job_id)


@dataclass
class Room:
    aligned: list[Record] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    within: int = 0
    most: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def align(self, record: Record) -> None:
        self.within += 1
        self.most = max(self.most, self.within)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.errors:
                raise self.errors.pop(0)
            self.aligned.append(record)
        finally:
            self.within -= 1
            self.news.set()


class LoopClock:
    def now_ns(self) -> int:
        return int(asyncio.get_running_loop().time() * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds, callback):
        return asyncio.get_running_loop().call_later(seconds, callback).cancel


class World:
    def __init__(self, *records: Record) -> None:
        self.engine = Engine({record.id: record for record in records})
        self.room = Room()
        self.keeper = EgressKeeper(lambda: self.engine, {"here": self.room}, LoopClock())  # type: ignore[arg-type]

    async def until(self, count: int) -> list[Record]:
        async with asyncio.timeout(5):
            while len(self.room.aligned) < count:
                self.room.news.clear()
                await self.room.news.wait()
        return self.room.aligned


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(keeper_module, "RETRY_SECONDS", 0.01)


def fact(record: Record, event: object) -> Fact:
    return Fact(record.id, 1, event)  # type: ignore[arg-type]


def named(record: Record) -> Fact:
    decision = Decision("d", Stage.ADMISSION, Verdict.ALLOW)
    return fact(record, PlatformJobNamed(PlatformJob("k", "n", Caller("i", "s")), decision))


async def test_only_runners_whose_job_is_named_later_are_looked_at():
    world = World(
        record_of("a"), record_of("b", awaits=False), record_of("c", phase=Phase.BINDING),
        record_of("d", phase=Phase.TEARDOWN), replace(record_of("e"), backend="elsewhere"),
    )  # fmt: skip
    await world.keeper.look()
    assert [one.offer.key.platform_id for one in await world.until(1)] == ["a"]
    await world.keeper.close()


async def test_a_fact_that_may_change_rules_makes_for_a_look_and_others_do_not():
    world = World(record_of("a"), record_of("b"))
    first, second = world.engine.records.values()
    world.keeper.observe([fact(second, JobCancelRequested("x")), named(first)])
    assert await world.until(1) == [first]
    await world.keeper.close()


async def test_what_could_not_be_told_is_told_again_by_itself():
    world = World(record_of("a"))
    world.room.errors = [TryAgainError("no", reason="gateway_unavailable")] * 3
    world.keeper.observe([named(*world.engine.records.values())])
    assert len(await world.until(1)) == 1
    await world.keeper.close()


async def test_what_cannot_be_is_not_tried_in_a_loop_but_at_the_next_look():
    world = World(record_of("a"))
    world.room.errors = [GiveUpError("no", reason="egress_rules_too_many")]
    await world.keeper.look()
    await asyncio.sleep(0.05)
    assert (world.room.errors, world.room.aligned) == ([], [])
    await world.keeper.look()
    assert len(await world.until(1)) == 1
    await world.keeper.close()


async def test_a_record_in_doubt_is_not_acted_upon():
    world = World(record_of("a"))
    world.engine.doubt = True
    with pytest.raises(TryAgainError):
        await world.keeper.aligned(record_of("a").id)
    world.keeper.observe([named(record_of("a"))])
    await asyncio.sleep(0.03)
    assert world.room.aligned == []
    world.engine.doubt = False
    await world.until(1)
    await world.keeper.close()


async def test_one_runner_is_aligned_by_one_at_a_time_and_with_the_record_as_it_is_then():
    world = World(record_of("a"))
    (record,) = world.engine.records.values()
    world.room.gate = asyncio.Event()
    calls = [asyncio.create_task(world.keeper.aligned(record.id)) for _ in range(3)]
    await asyncio.sleep(0)
    wider = world.engine.records[record.id] = record_of("a", WIDE)
    world.room.gate.set()
    await asyncio.gather(*calls)
    assert world.room.most == 1
    assert world.room.aligned == [record, wider, wider]
    await world.keeper.close()


async def test_a_namers_answer_waits_for_the_egress():
    world = World(record_of("a", WIDE))
    (record,) = world.engine.records.values()

    async def namer(_identity, _report):
        return record if world.room is not None else None

    answer = world.keeper.with_egress(namer)
    identity = RunnerIdentity(record.runner, "uid")
    assert await answer(identity, REPORT) is record
    assert world.room.aligned == [record]
    world.room.errors = [TryAgainError("no", reason="gateway_unavailable")]
    with pytest.raises(TryAgainError):
        await answer(identity, REPORT)
    await world.until(2)  # by itself

    async def nobody(_identity, _report):
        return None

    assert await world.keeper.with_egress(nobody)(identity, REPORT) is None
    await world.keeper.close()


# --- what rooms do ---


class Gateway:
    """In place of the process, to see what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[EgressRule, ...]] = []
        self.refuses: list[Exception] = []

    async def open(self, _runner, _listener, rules) -> None:
        self.told.append(rules)

    async def change(self, _runner, rules) -> bool:
        if rules and self.refuses:
            raise self.refuses.pop(0)
        self.told.append(rules)
        return True

    async def close(self, _runner) -> None:
        return


@pytest.fixture
async def sandbox() -> EgressAdapter:
    made = EgressAdapter(GatewayConfig(), lambda: None, str)  # type: ignore[arg-type, return-value]
    made.gateway = Gateway()  # type: ignore[assignment]
    await made.open(record_of().runner, None, NARROW)  # type: ignore[arg-type]
    return made


async def test_a_gateway_is_told_what_it_does_not_go_by_yet(sandbox):
    for record in (record_of(), record_of(rules=WIDE), record_of(rules=WIDE), record_of()):
        await sandbox.align(record)
    assert sandbox.gateway.told == [NARROW, WIDE, NARROW]


async def test_a_runner_that_is_not_open_is_not_opened_by_its_rules(sandbox):
    await sandbox.align(record_of("b", WIDE))
    await sandbox._notes.stop()
    sandbox._rules.pop(record_of().runner)
    await sandbox.align(record_of(rules=WIDE))
    assert sandbox.gateway.told == [NARROW]


async def test_after_a_change_in_doubt_the_gateway_is_told_again(sandbox):
    sandbox.gateway.refuses = [TryAgainError("died", reason="gateway_unavailable")]
    with pytest.raises(TryAgainError):
        await sandbox.align(record_of(rules=WIDE))
    await sandbox.align(record_of())
    assert sandbox.gateway.told == [NARROW, NARROW]


async def test_rules_that_no_gateway_takes_leave_none(sandbox):
    sandbox.gateway.refuses = [ConfigurationError("*.com", reason="egress_rule_invalid")]
    with pytest.raises(ConfigurationError):
        await sandbox.align(record_of(rules=WIDE))
    assert sandbox.gateway.told == [NARROW, ()]
    await sandbox.align(record_of(rules=WIDE))
    assert sandbox.gateway.told[-1] == WIDE


async def test_in_a_cluster_too_rules_that_cannot_be_leave_none(monkeypatch):
    monkeypatch.setattr(hub_module, "MARGIN_SECONDS", 0.0)
    made = ClusterEgress(lambda: None, str, max_age=0.2)  # type: ignore[arg-type, return-value]
    runner = record_of().runner
    assert not await made.align(record_of(rules=WIDE)), "who is not published is not published by its rules"
    made.hub.begin()
    made.hub.publish(runner, "10.0.0.1", "a" * 64, NARROW)
    assert await made.align(record_of(rules=WIDE))

    async def table():
        (entry,) = (await made.hub.poll("pod", "g", "")).runners
        return [rule.host for rule in entry.rules]

    assert await table() == ["forge.test", "cache.test"]
    with pytest.raises(ConfigurationError):
        await made.align(record_of(rules=(EgressRule("*.com"),)))
    assert await table() == []
    assert not await made.align(replace(record_of(), runner=None))
    await made.stop()
