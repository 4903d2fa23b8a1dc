"""Whole lives of jobs on a real API server: each way a pod ends or never starts has its own reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.lifecycle.observation import SECOND, Deadlines
from orchestrator.model import events as e
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.phase import Phase
from orchestrator.model.runner import runner_name
from orchestrator.testing.kubelet import Script
from orchestrator.testing.pod_states import End

pytestmark = pytest.mark.cluster


async def life(world, script, seconds=60, **config):
    backend = await world.backend(world.config(**config))
    daemon = world.daemon(backend)
    world.script = lambda _: script
    await world.kubelet(agent=daemon.agent)
    job = await daemon.offer(1)
    record = await daemon.finished(job, seconds)
    assert await world.pod_names() == []
    assert await daemon.broken() == []
    waits = [fact.event.reason.value for fact in await daemon.journal.facts_of(job) if type(fact.event) is e.JobWaited]
    return record, waits, backend


@pytest.mark.parametrize(
    ("script", "result", "reason", "code"),
    [
        (Script(), Result.SUCCESS, EndReason.COMPLETED, 0),
        (Script(code=3), Result.FAILURE, EndReason.EXIT_NONZERO, 3),
        (Script(code=137), Result.FAILURE, EndReason.KILLED_BY_SIGNAL, 137),
        (Script(End.OUT_OF_MEMORY), Result.ERROR, EndReason.OUT_OF_MEMORY, 137),
        (Script(End.DEADLINE), Result.TIMEOUT, EndReason.RUN_TIMEOUT, 143),
        (Script(End.EVICTED), Result.ERROR, EndReason.RUNNER_EVICTED, 137),
        (Script(End.PREEMPTED, run_seconds=1.2), Result.ERROR, EndReason.RUNNER_PREEMPTED, 143),
        (Script(End.DELETED, run_seconds=0.2), Result.ERROR, EndReason.RUNNER_DELETED, 143),
        (Script(End.START_ERROR), Result.ERROR, EndReason.RUNNER_START_FAILED, 128),
    ],
    ids=lambda value: getattr(value, "value", None),
)
async def test_what_ends_a_job_that_has_the_work(world, script, result, reason, code):
    record, _, backend = await life(world, script)
    assert (record.outcome.result, record.outcome.reason, record.outcome.exit_code) == (result, reason, code)
    assert record.bound_uid
    # What somebody else deleted may be gone before we come to it.
    assert backend.client.writes == 2 or (script.end in (End.PREEMPTED, End.DELETED) and backend.client.writes == 1)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (Script(End.NOT_TAKEN_IN), EndReason.RUNNER_EVICTED),
        (Script(End.EVICTED, at_agent=True), EndReason.RUNNER_EVICTED),
        (Script(End.AGENT_FAILED, 69), EndReason.AGENT_FAILED),
        (Script(End.AGENT_FAILED, 77), EndReason.AGENT_FAILED),
        (Script(End.AGENT_FAILED, 78), EndReason.AGENT_FAILED),
        (Script(End.OUT_OF_MEMORY, at_agent=True), EndReason.OUT_OF_MEMORY),
        (Script(End.BAD_IMAGE, at_agent=True), EndReason.IMAGE_PULL_FAILED),
    ],
)
async def test_what_ends_a_job_before_it_has_the_work(world, script, reason):
    record, _, backend = await life(world, script)
    assert (record.outcome.result, record.outcome.reason) == (Result.ERROR, reason)
    assert not record.bound_uid
    assert backend.client.writes == 2


@pytest.mark.parametrize(
    ("script", "wait", "reason", "bound"),
    [
        (Script(End.UNSCHEDULABLE), "unschedulable", EndReason.UNSCHEDULABLE, False),
        (Script(End.IMAGE_PULL, at_agent=True), "image_pull", EndReason.IMAGE_PULL_FAILED, False),
        (Script(End.IMAGE_PULL), "image_pull", EndReason.IMAGE_PULL_FAILED, True),
    ],
)
async def test_an_obstacle_is_a_waiting_state_and_then_an_end(world, script, wait, reason, bound):
    record, waits, _ = await life(world, script, image_pull_seconds=2, unschedulable_seconds=2)
    # A scheduler may look at the pod before the kubelet binds it, and find no node.
    assert waits[-1] == wait
    assert waits.count(wait) == 1
    assert (record.outcome.result, record.outcome.reason, bool(record.bound_uid)) == (Result.ERROR, reason, bound)
    assert record.outcome.message.endswith(".")


async def test_a_lost_node_ends_the_job_and_is_told_as_stuck_until_the_pod_is_gone(world):
    daemon = world.daemon(await world.backend(), deadlines=replace(Deadlines(), teardown_ns=SECOND))
    world.script = lambda _: Script(End.NODE_LOST)
    await world.kubelet(agent=daemon.agent)
    job = await daemon.offer(1)
    record = await daemon.at(job, Phase.TEARDOWN)
    assert record.outcome.reason is EndReason.NODE_LOST

    async def alarmed():
        return any(
            isinstance(fact.event, e.AlarmRaised) and fact.event.alarm == "teardown_stuck"
            for fact in await daemon.journal.facts_of(job)
        )

    await world.until(alarmed)
    path = f"{world.pods()}/{runner_name(job)}"
    await world.call("DELETE", path, {"gracePeriodSeconds": 0})
    await daemon.finished(job)
    assert await daemon.broken() == []


async def test_a_full_quota_is_waiting_until_a_place_is_free(world):
    await world.quota(1)
    short = replace(Deadlines(), provision_ns=3 * SECOND, capacity_ns=60 * SECOND)
    daemon = world.daemon(await world.backend(), deadlines=short)
    world.script = lambda _: Script(End.HOLD)
    kubelet = await world.kubelet(agent=daemon.agent)
    first = await daemon.offer(1)
    await daemon.at(first, Phase.RUNNING)
    second = await daemon.offer(2)

    async def waits():
        record = await daemon.record(second)
        return record.wait is not None and record.wait.reason is e.WaitReason.QUOTA_EXHAUSTED

    await world.until(waits)
    await asyncio.sleep(4.0)
    assert (await daemon.record(second)).phase is Phase.PROVISIONING
    kubelet.end(runner_name(first))
    kubelet.end(runner_name(second))
    assert (await daemon.finished(first)).outcome.reason is EndReason.COMPLETED
    assert (await daemon.finished(second)).outcome.reason is EndReason.COMPLETED
    facts = [fact.event for fact in await daemon.journal.facts_of(second)]
    waits = [event.reason.value for event in facts if isinstance(event, e.JobWaited)]
    assert waits[0] == "quota_exhausted"
    assert waits.count("quota_exhausted") == 1


async def test_a_quota_that_never_frees_ends_by_the_capacity_deadline(world):
    await world.quota(0)
    deadlines = replace(Deadlines(), provision_ns=3 * SECOND, capacity_ns=5 * SECOND)
    daemon = world.daemon(await world.backend(), deadlines=deadlines)
    record = await daemon.finished(await daemon.offer(1))
    assert record.outcome.reason is EndReason.CAPACITY_TIMEOUT
    assert "exceeded quota" in record.outcome.message


async def test_what_admission_refuses_is_an_end_with_its_words(world):
    await world.ensure(
        f"/api/v1/namespaces/{world.namespaces[0]}/limitranges",
        {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1m"}}]}},
    )
    daemon = world.daemon(await world.backend())
    record = await daemon.finished(await daemon.offer(1))
    assert (record.outcome.result, record.outcome.reason) == (Result.ERROR, EndReason.CREATE_REFUSED)
    assert "maximum cpu usage" in record.outcome.message


async def test_a_pod_that_goes_before_it_has_the_work_is_replaced(world):
    daemon = world.daemon(await world.backend())
    job = await daemon.offer(1)
    first = (await daemon.at(job, Phase.BINDING)).runner_uid
    await world.call("DELETE", f"{world.pods()}/{runner_name(job)}", {"gracePeriodSeconds": 0})

    async def replaced():
        record = await daemon.record(job)
        return record.phase is Phase.BINDING and record.runner_uid != first

    await world.until(replaced)
    await world.kubelet(agent=daemon.agent)
    assert (await daemon.finished(job)).outcome.reason is EndReason.COMPLETED
    assert await daemon.broken() == []


async def test_a_next_daemon_adopts_what_runs_and_sweeps_what_nobody_owns(world):
    backend = await world.backend()
    daemon = world.daemon(backend)
    world.script = lambda _: Script(End.HOLD)
    kubelet = await world.kubelet(agent=lambda pod: lives[-1].agent(pod))
    lives = [daemon]
    jobs = [await daemon.offer(number) for number in range(3)]
    for job in jobs:
        await daemon.at(job, Phase.RUNNING)
    orphan = world.spec(99)
    await backend.create(orphan)
    await daemon.stop()
    await backend.close()
    kubelet.end(runner_name(jobs[0]), 4)

    again = await world.backend()
    next_daemon = world.daemon(again, journal=daemon.journal)
    lives.append(next_daemon)
    assert await next_daemon.recover() == 3
    assert (await next_daemon.finished(jobs[0])).outcome.exit_code == 4
    for _ in range(2):
        await next_daemon.sweep.run()
    assert next_daemon.sweep.orphans_deleted == 1
    for job in jobs[1:]:
        assert (await next_daemon.record(job)).phase is Phase.RUNNING
        kubelet.end(runner_name(job), 0)
        assert (await next_daemon.finished(job)).outcome.reason is EndReason.COMPLETED
    await world.until(lambda: _empty(world))
    assert again.client.writes == 4


async def _empty(world) -> bool:
    return await world.pod_names() == []
