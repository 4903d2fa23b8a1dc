"""Pools that change while the engine runs: what has begun goes on as it began, what waits goes by what is now."""

from __future__ import annotations

from dataclasses import replace

import pytest
from world import PLATFORM_HOST, POOL, REGISTRY, Daemon, offer, pool

from orchestrator.lifecycle.admit import admit_again
from orchestrator.lifecycle.capacity import Slots
from orchestrator.lifecycle.observation import Action, Deadlines, Observation
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.runner import runner_name
from orchestrator.testing.policy import FixedPolicy

ONE, TWO, THREE = (offer(number).key.id for number in (1, 2, 3))


async def started(jobs: int, capacity: int = 1, **given) -> Daemon:
    """Of the jobs as many as the pool takes have claimed, the others wait."""
    daemon = Daemon(capacity=capacity, **given)
    await daemon.start()
    for number in range(1, jobs + 1):
        await daemon.offer(offer(number))
    await daemon.settle()
    for number in range(1, min(jobs, capacity) + 1):
        await daemon.claim(runner_name(offer(number).key.id))
    await daemon.settle()
    return daemon


async def changed(daemon: Daemon, *pools: Pool, deadlines: Deadlines | None = None) -> None:
    daemon.engine.pools_changed({one.name: one for one in pools}, deadlines or Deadlines())
    await daemon.settle()


def phase(daemon: Daemon, job_id: JobId) -> Phase | None:
    record = daemon.engine.record(job_id)
    return record.phase if record else None


async def facts(daemon: Daemon, job_id: JobId) -> list[e.Event]:
    return [fact.event for fact in await daemon.journal.facts_of(job_id)]


async def end(daemon: Daemon, job_id: JobId) -> EndReason:
    (ended,) = [fact for fact in await facts(daemon, job_id) if isinstance(fact, e.JobEnded)]
    return ended.outcome.reason


async def test_more_room_is_given_to_those_who_wait():
    daemon = await started(3)
    assert [phase(daemon, job) for job in (ONE, TWO, THREE)] == [Phase.RUNNING, Phase.WAITING, Phase.WAITING]
    await changed(daemon, pool(2))
    assert [phase(daemon, job) for job in (TWO, THREE)] == [Phase.BINDING, Phase.WAITING]
    assert [fact.detail for fact in await facts(daemon, THREE) if isinstance(fact, e.JobWaited)][-1].startswith(
        "all 2 "
    )


async def test_less_room_ends_nobody():
    daemon = await started(3, 2)
    await changed(daemon, pool(1))
    assert [phase(daemon, job) for job in (ONE, TWO, THREE)] == [Phase.RUNNING, Phase.RUNNING, Phase.WAITING]
    daemon.backend.exit(runner_name(ONE))
    await daemon.settle()
    assert phase(daemon, ONE) is None
    assert phase(daemon, THREE) is Phase.WAITING, "one is still there, which is all that the pool takes"
    daemon.backend.exit(runner_name(TWO))
    await daemon.settle()
    assert phase(daemon, THREE) is Phase.BINDING


async def test_a_pool_that_goes_keeps_its_runners_and_ends_who_waits():
    daemon = await started(2)
    await changed(daemon)
    assert phase(daemon, ONE) is Phase.RUNNING
    assert daemon.use_identity(runner_name(ONE)), "its identity is worth what it was"
    assert await end(daemon, TWO) is EndReason.UNKNOWN_POOL
    daemon.backend.exit(runner_name(ONE))
    await daemon.settle()
    assert await end(daemon, ONE) is EndReason.COMPLETED
    await changed(daemon, pool(1))
    await daemon.offer(offer(3))
    await daemon.settle()
    assert phase(daemon, THREE) is Phase.BINDING, "it is back, with all its room"


async def test_the_limit_of_a_job_that_runs_stays():
    daemon = await started(1)
    await changed(daemon, replace(pool(1), max_job_seconds=10))
    await daemon.clock.advance(599)
    assert phase(daemon, ONE) is Phase.RUNNING
    await daemon.clock.advance(2)
    assert await end(daemon, ONE) is EndReason.RUN_TIMEOUT


async def test_the_proof_that_a_runner_owes_stays():
    daemon = Daemon(capacity=1)
    await daemon.start()
    await daemon.offer(offer(1))
    await daemon.settle()
    await changed(daemon, pool(1, proof=False))
    name = runner_name(ONE)
    assert not await daemon.claim(name, EgressProof())
    assert await end(daemon, ONE) is EndReason.EGRESS_UNPROVEN


async def test_who_waits_is_judged_again_when_its_pool_allows_less():
    daemon = await started(2)
    await changed(daemon, replace(pool(1), egress=(REGISTRY,)))
    assert [type(fact) for fact in await facts(daemon, TWO)].count(e.JobAdmitted) == 2
    daemon.backend.exit(runner_name(ONE))
    await daemon.settle()
    waiting, running = daemon.engine.record(TWO), daemon.engine.record(ONE)
    assert waiting is not None
    assert (waiting.phase, waiting.obligations.egress) == (Phase.BINDING, (REGISTRY,))
    assert running is None
    assert [type(fact) for fact in await facts(daemon, ONE)].count(e.JobAdmitted) == 1


async def test_judged_again_it_can_be_denied():
    verdicts = {TWO: Verdict.ALLOW}
    daemon = await started(2, verdict_of=lambda record: verdicts.get(record.id, Verdict.ALLOW))
    verdicts[TWO] = Verdict.DENY
    await changed(daemon, replace(pool(1), egress=(PLATFORM_HOST,)))
    assert await end(daemon, TWO) is EndReason.POLICY_DENIED


async def test_a_wider_pool_asks_nobody():
    daemon = await started(2)
    await changed(daemon, replace(pool(1), egress=(*pool().egress, *pool().egress)))
    assert [type(fact) for fact in await facts(daemon, TWO)].count(e.JobAdmitted) == 1


async def test_deadlines_count_from_where_the_phase_began():
    daemon = await started(2)
    await daemon.clock.advance(100)
    await changed(daemon, pool(1), deadlines=Deadlines(capacity_ns=60 * 10**9))
    assert await end(daemon, TWO) is EndReason.CAPACITY_TIMEOUT


async def test_killed_before_it_was_judged_again_the_next_daemon_judges():
    daemon = await started(2)
    await daemon.kill()
    daemon.pools = {POOL: replace(pool(1), egress=(REGISTRY,))}
    await daemon.start()
    assert [type(fact) for fact in await facts(daemon, TWO)].count(e.JobAdmitted) == 2
    bound = daemon.engine.bound_record(RunnerIdentity(runner_name(ONE), daemon.backend.view(runner_name(ONE)).uid))
    assert bound is not None
    assert bound.obligations.egress == pool().egress


async def test_a_policy_that_allows_more_than_the_pool_ends_the_job():
    daemon = await started(2)
    record = daemon.engine.record(TWO)
    assert record is not None
    narrow = replace(pool(1), egress=())
    asked = admit_again(record, Observation(0, narrow))
    assert asked is not None
    assert asked.action is Action.ASK_POLICY
    decision = await FixedPolicy().admit(record, pool(1))
    step = admit_again(record, Observation(0, narrow, decision=decision))
    assert step is not None
    (ended,) = step.facts
    assert isinstance(ended, e.JobEnded)
    assert ended.outcome.reason is EndReason.POLICY_ERROR


@pytest.mark.parametrize(("capacity", "granted"), [(1, ()), (2, (TWO,)), (9, (TWO, THREE))])
def test_slots_of_another_size(capacity, granted):
    slots = Slots(1)
    assert slots.take(ONE, "alice")
    assert not slots.take(TWO, "alice")
    assert not slots.take(THREE, "bob")
    assert slots.resize(capacity) == granted
    assert (slots.capacity, slots.held) == (capacity, 1 + len(granted))
    if not granted:
        assert slots.release(ONE) == (TWO,)


@pytest.mark.parametrize("pools", [(replace(pool(1), egress=()),), ()], ids=["narrower", "gone"])
async def test_a_pool_that_changes_while_policy_is_asked_counts_as_it_is_by_then(pools):
    daemon = Daemon(capacity=1, verdict_of=lambda _: change_once())
    left = [pools]

    def change_once() -> Verdict:
        if left:
            daemon.engine.pools_changed({one.name: one for one in left.pop()}, Deadlines())
        return Verdict.ALLOW

    await daemon.start()
    await daemon.offer(offer(1))
    await daemon.settle()
    record = daemon.engine.record(ONE)
    if pools:
        assert record is not None
        assert (record.phase, record.obligations.egress) == (Phase.BINDING, ())
    else:
        assert await end(daemon, ONE) is EndReason.UNKNOWN_POOL


@pytest.mark.parametrize("pools", [(replace(pool(1), egress=()),), ()], ids=["narrower", "gone"])
async def test_whose_runner_vanished_has_not_begun(pools):
    daemon = Daemon(capacity=1)
    await daemon.start()
    await daemon.offer(offer(1))
    await daemon.settle()
    assert phase(daemon, ONE) is Phase.BINDING
    await changed(daemon, *pools)
    assert phase(daemon, ONE) is Phase.BINDING
    daemon.backend.vanish(runner_name(ONE))
    await daemon.settle()
    record = daemon.engine.record(ONE)
    if pools:
        assert record is not None
        assert (record.runner_number, record.phase, record.obligations.egress) == (2, Phase.BINDING, ())
    else:
        assert await end(daemon, ONE) is EndReason.UNKNOWN_POOL
