"""What a restart does with a full queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.recovery import recover
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.runner import RunnerName, runner_name
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.policy import FixedPolicy


class WaitingJournal(MemoryJournal):
    """Each append takes a turn of the loop, as a real commit does: others run in between."""

    async def append(self, facts: Sequence[tuple[JobId, events.Event]]) -> Sequence[events.Fact]:
        await asyncio.sleep(0)
        return await super().append(facts)


POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, 1, "memory", "none")


def offer(name: str) -> JobOffer:
    return JobOffer(JobKey("dispatch", name), JobSpec(name, POOL.name, "true"), Caller("issuer", "subject"))


async def store(journal: MemoryJournal, name: str, *more: events.Event) -> JobId:
    offered = offer(name)
    admitted = events.JobAdmitted(Decision("d", Stage.ADMISSION, Verdict.ALLOW))
    job_id = offered.key.id
    await journal.append([(job_id, event) for event in (events.JobOffered(offered), admitted, *more)])
    return job_id


async def test_held_slots_are_counted_before_a_waiting_job_asks_for_one():
    """Jobs wait in front of the one that holds the pool's only slot: the new daemon must start none of them."""
    clock = SteppedClock()
    journal, backend = WaitingJournal(clock), MemoryBackend(clock)
    waiting = [await store(journal, f"waiting-{number}") for number in range(600)]
    holder = JobKey("dispatch", "holder").id
    runner: RunnerName = runner_name(holder)
    await store(journal, "holder", events.ProvisionStarted(runner, "", 1, "memory"))
    performer = Performer(FixedPolicy(), {"memory": backend}, {})
    engine = Engine(journal=journal, performer=performer, pools={POOL.name: POOL}, clock=clock)

    assert await recover(journal, engine, "second") == 601
    await engine.idle()

    assert backend.names() == (runner,)
    assert [engine.slots(POOL.name).held, engine.slots(POOL.name).waiting] == [1, 600]
    for job_id in (*waiting, holder):
        restarts = [fact for fact in await journal.facts_of(job_id) if isinstance(fact.event, events.DaemonRestarted)]
        assert len(restarts) == 1
    await engine.close()
    await asyncio.sleep(0)


async def test_a_job_whose_facts_contradict_each_other_holds_up_no_other():
    clock = SteppedClock()
    journal, backend = MemoryJournal(clock), MemoryBackend(clock)
    bound = events.RunnerBound(runner_name(JobKey("dispatch", "damaged").id), "u", EgressProof(("x",)))
    damaged = await store(journal, "damaged", bound, bound)
    well = await store(journal, "well")
    performer = Performer(FixedPolicy(), {"memory": backend}, {})
    engine = Engine(journal=journal, performer=performer, pools={POOL.name: POOL}, clock=clock)

    assert await recover(journal, engine, "second") == 1
    await engine.idle()

    assert engine.live_ids() == [well]
    assert engine.record(damaged) is None
    await engine.close()
