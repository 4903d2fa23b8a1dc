"""Messages lie, repeat themselves and get lost; each job still gets one runner, and no runner is left over."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from github_plant import POOL, QUICK, Plant, plant_of, succeeded

from orchestrator.intake.github.source_config import ScaleSetConfig
from orchestrator.model.decision import Verdict
from orchestrator.model.outcome import EndReason
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import Flavour, JobState


def reasons(records) -> list[str]:
    return sorted(record.outcome.reason.value for record in records)


async def done(plant: Plant, *runs, seconds: float = 25):
    await plant.github.until(lambda: all(run.done for run in runs), seconds)
    await plant.at_rest()
    return await plant.assert_kept()


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_what_was_cut_off_a_message_is_made_good_by_the_count(flavour):
    async with plant_of(flavour, capacity=12, start=False) as plant:
        plant.hook = True
        plant.github.options.events_per_message = 2
        plant.github.options.poll_hold = 0.1
        plant.github.faults.drop_backlog = True
        run = plant.dispatch(12)
        await plant.start()
        records = await done(plant, run)
        assert [job.conclusion for job in run.jobs] == ["success"] * 12
        assert len(succeeded(records)) == 12
        assert plant.source.tally.filled + plant.source.tally.acquired >= 6


async def test_jobs_announced_while_the_count_is_zero_get_runners():
    async with plant_of() as plant:
        plant.github.faults.zero_statistics = True
        run = plant.dispatch(3)
        records = await done(plant, run)
        assert len(succeeded(records)) == len(records) == 3
        assert plant.source.tally.disbelieved >= 1


@pytest.mark.parametrize("older", [False, True])
async def test_messages_that_come_again_change_nothing(older):
    async with plant_of() as plant:
        plant.github.options.redeliver_older = older
        plant.github.faults.add(Fault.BAD_GATEWAY, "DELETE /scalesets/message", times=60)
        run = plant.dispatch(3)
        records = await done(plant, run)
        assert len(succeeded(records)) == len(records) == 3


async def test_messages_told_twice_and_out_of_order_change_nothing():
    async with plant_of() as plant:
        run = plant.dispatch(2)
        records = await done(plant, run)
        tell = plant.github.state.assignment.tell_again
        for kind in ("JobCompleted", "JobStarted", "JobAssigned", "JobStarted", "JobAssigned", "JobCompleted"):
            for job in run.jobs:
                tell(plant.scale_set, job, kind)
        await plant.until(lambda: not plant.scale_set.events and not plant.scale_set.messages)
        another = plant.dispatch(1)
        records = await done(plant, another)
        assert len(succeeded(records)) == 3
        assert [job.starts for job in run.jobs] == [1, 1]


async def idle(plant: Plant, name):
    """A runner that takes no job: it never comes online."""
    await plant.until(lambda: plant.registered(name) is None, 30)
    return 0


async def test_a_job_cancelled_before_it_started_leaves_no_runner():
    async with plant_of() as plant:
        plant.behave = idle
        run = plant.dispatch(2)
        await plant.github.until(lambda: len(plant.github.state.runners) == 2)
        plant.github.state.cancel(run)
        records = await done(plant, run)
        assert reasons(records) == ["cancelled", "cancelled"]
        assert plant.source.tally.taken_back == 2


async def test_a_job_that_is_assigned_three_times_gets_one_runner():
    """The runner is slow: GitHub takes the job back and assigns it again, twice."""
    async with plant_of() as plant:
        plant.github.options.unclaimed = 0.15
        plant.github.options.requeue_delays = (0.05, 0.05, 0.05)
        run = plant.dispatch(1)
        ready = asyncio.Event()

        async def slow(plant: Plant, name):
            await ready.wait()
            return await plant.do_job(name)

        plant.behave = slow
        await plant.until(lambda: run.jobs[0].rounds >= 2)
        assert len(plant.backend.created_uids) == 1
        ready.set()
        records = await done(plant, run)
        assert len(succeeded(records)) == len(records) == 1


@pytest.mark.slow
async def test_runners_that_fail_at_once_are_made_again_with_a_pause():
    async with plant_of(timing=replace(QUICK, fill_first=0.1, fill_longest=0.4)) as plant:
        tries = []

        async def broken(plant: Plant, name):
            tries.append(time.monotonic())
            return 1 if len(tries) < 4 else await plant.do_job(name)

        plant.behave = broken
        run = plant.dispatch(1)
        records = await done(plant, run)
        assert len(tries) == 4
        assert tries[3] - tries[0] >= 0.05 + 0.1 + 0.2
        assert len(succeeded(records)) == 1
        assert reasons(records).count("exit_nonzero") == 3


async def test_no_more_runners_than_the_pool_and_the_set_allow():
    async with plant_of(capacity=3, start=False) as plant:
        plant.sets = (ScaleSetConfig(name="zt", pool=POOL, script="exec runner", max_runners=2),)
        most = 0

        def counted(action, job):
            nonlocal most
            most = max(most, len(plant.backend.names()))

        plant.github.state.listeners.append(counted)
        run = plant.dispatch(6)
        await plant.start()
        records = await done(plant, run)
        assert len(succeeded(records)) == 6
        assert most <= 2
        await plant.until(lambda: plant.source.status().sets[0].announced == 2)


async def test_room_that_comes_while_a_poll_waits_is_told_at_once():
    async with plant_of(capacity=1, start=False) as plant:
        plant.github.options.poll_hold = 60
        plant.poll_seconds = 60
        plant.free = lambda pool: plant_free[0]
        plant_free = [0]
        run = plant.dispatch(1)
        await plant.start()
        await plant.until(lambda: plant.source.status().sets[0].stage == "listening")
        assert run.jobs[0].state is JobState.QUEUED
        plant_free[0] = 1
        plant.source.capacity_changed()
        records = await done(plant, run)
        assert len(succeeded(records)) == 1
        assert plant.source.tally.polls_cut >= 1


async def test_a_draining_source_asks_for_no_more():
    async with plant_of() as plant:
        plant.github.options.poll_hold = 0.05
        first = plant.dispatch(1)
        await done(plant, first)
        plant.source.set_draining(True)
        (one,) = plant.github.state.sets.values()
        await plant.until(lambda: one.capacity == 0)
        run = plant.dispatch(1)
        await asyncio.sleep(0.2)
        assert run.jobs[0].state is JobState.QUEUED


async def test_a_denied_job_has_no_identity_and_the_source_goes_on():
    async with plant_of() as plant:
        plant.policy._verdict_of = lambda record: Verdict.DENY if record.offer.spec.pipeline else Verdict.ALLOW
        run = plant.dispatch(1)
        records = await done(plant, run)
        assert reasons(records) == [EndReason.POLICY_DENIED.value]
        assert (plant.source.tally.refused, run.jobs[0].conclusion) == (1, "failure")
        assert plant.source.tally.filled == 0, "GitHub still counts the job when its runner is gone"


async def test_names_wait_for_githubs_api_and_hold_nothing_up():
    async with plant_of() as plant:
        away = plant.github.faults.add(Fault.UNAVAILABLE, "GET /repos/{owner}/{repo}/actions/runs", times=10_000)
        first = plant.dispatch(1)
        await plant.github.until(lambda: bool(first.jobs[0].runner))
        await plant.until(lambda: away.times < 10_000)
        second = plant.dispatch(1)
        await plant.github.until(lambda: bool(second.jobs[0].runner))
        assert all(record.named_at_ns == 0 for record in await plant.records())
        away.times = 0
        records = await done(plant, first, second)
        assert len(succeeded(records)) == 2


async def test_another_programs_runner_in_our_set_is_no_concern_of_ours():
    async with plant_of(capacity=1) as plant:
        plant.free = lambda pool: 1
        await plant.until(lambda: bool(plant.github.state.sets))
        labels = ("zt",)
        theirs = plant.github.state.register(
            "acme", "their-runner", labels=labels, group_id=1, work_folder="", one=plant.scale_set
        )
        plant.github.state.come_online(theirs)
        run = plant.dispatch(1)
        await plant.until(lambda: plant.source.tally.foreign == 1)
        plant.github.state.finish(theirs, "succeeded")
        await plant.github.until(lambda: run.done)
        records = await done(plant, run)
        assert succeeded(records) == []


async def test_a_failed_job_is_a_failure_and_a_cancelled_one_a_cancellation():
    async with plant_of() as plant:
        results = iter(("failed", "canceled"))

        async def fails(plant: Plant, name):
            return await plant.do_job(name, result=next(results))

        plant.behave = fails
        run = plant.dispatch(2)
        records = await done(plant, run)
        assert reasons(records) == ["cancelled", "job_failed"]
