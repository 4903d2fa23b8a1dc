"""Registrations at GitHub: made once for each runner, never twice under one name, and none is left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from github_plant import QUICK, Plant, plant_of, succeeded

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.intake.github.names import registered_name, runner_of
from orchestrator.model.runner import RunnerName
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobState

JIT = "POST /_apis/runtime/runnerscalesets/{id}/generatejitconfig"
AGENT = "DELETE /_apis/distributedtask/pools/0/agents/{agent}"


async def done(plant: Plant, *runs):
    await plant.github.until(lambda: all(run.done for run in runs), 25)
    await plant.at_rest()
    return await plant.assert_kept()


async def waits(plant: Plant, name):
    """A runner that comes online and waits for a job that may never come."""
    return await plant.do_job(name)


@pytest.mark.parametrize("fault", [Fault.DONE_BUT_500, Fault.DONE_BUT_RESET, Fault.TRUNCATED])
async def test_a_configuration_whose_answer_was_lost_is_never_used(fault):
    async with plant_of() as plant:
        plant.github.faults.add(fault, JIT)
        run = plant.dispatch(1)
        records = await done(plant, run)
        assert len(succeeded(records)) == len(records) == 1
        assert run.jobs[0].runner_name == registered_name(records[0].runner, 2)


async def test_a_runner_that_cannot_be_registered_ends_and_the_next_one_is_tried():
    async with plant_of() as plant:
        broken = plant.github.faults.add(Fault.FORBIDDEN, JIT, times=2)
        run = plant.dispatch(1)
        records = await done(plant, run)
        assert broken.times == 0
        assert len(succeeded(records)) == 1
        assert len(records) == 3


async def test_work_is_made_only_for_those_it_is_meant_for():
    async with plant_of() as plant:
        run = plant.dispatch(1)
        (record,) = await done(plant, run)
        with pytest.raises(GiveUpError) as told:
            await plant.source.work_files(record)
        assert told.value.reason == "job_ended"
        other = replace(record, offer=replace(record.offer, key=replace(record.offer.key, source="dispatch")))
        assert await plant.source.work_files(other) == {}
        calls = sum(plant.github.counters.values())
        await plant.source.revoke(other)
        await plant.source.revoke(replace(record, bound_at_ns=0))
        assert sum(plant.github.counters.values()) - calls <= 1, "only the poll may go on"


async def test_the_configuration_is_shown_nowhere():
    async with plant_of() as plant:
        seen = []
        given = plant.source.work_files

        async def kept(record):
            files = await given(record)
            seen.append(files["jitconfig"])
            return files

        plant.source.work_files = kept
        run = plant.dispatch(1)
        records = await done(plant, run)
        told = repr(records) + repr(plant.source.status()) + repr([vars(one) for one in (plant.source._registrations,)])
        assert seen
        assert seen[0] not in told


async def test_a_runner_that_got_a_job_is_not_taken_back():
    """GitHub counts no job any more, by mistake, while one of two waiting runners has just got one."""
    async with plant_of(timing=replace(QUICK, surplus_grace=0.05)) as plant:
        plant.github.options.poll_hold = 0.05
        plant.github.state.assignment.hold_started = 1.0
        run = plant.dispatch(1)
        hold = asyncio.Event()

        async def slow(plant: Plant, name):
            runner = await plant.take_job(name)
            await hold.wait()
            if runner.busy:
                plant.github.state.finish(runner, "succeeded")
            return 0

        plant.behave = slow
        await plant.github.until(lambda: run.jobs[0].state is JobState.RUNNING)
        plant.github.faults.zero_statistics = True
        plant.github.state.assignment.tell_statistics(plant.scale_set)
        await plant.until(lambda: plant.source.tally.busy >= 1)
        assert plant.source.tally.taken_back == 0
        assert run.jobs[0].state is JobState.RUNNING
        hold.set()
        plant.github.faults.zero_statistics = False
        await done(plant, run)
        assert [job.starts for job in run.jobs] == [1]


async def test_a_runner_that_github_calls_busy_for_ever_holds_no_record_up():
    async with plant_of() as plant:

        async def dies(plant: Plant, name):
            await plant.take_job(name)
            return 137

        plant.behave = dies
        run = plant.dispatch(1)
        await plant.github.until(lambda: bool(run.jobs[0].runner))
        await plant.until(lambda: plant.source.tally.leftovers == 1)
        await plant.at_rest()
        assert run.jobs[0].state is JobState.RUNNING
        (receipt,) = await plant.receipts()
        assert receipt.leftovers == ["github_registration (busy)"]
        assert [alarm.alarm for alarm in receipt.alarms if alarm.alarm == "left_behind"] == ["left_behind"]
        await plant.source.sweep()
        await plant.source.sweep()
        assert plant.github.state.runners, "a busy registration is not removed"
        plant.github.state.finish(run.jobs[0].runner, "abandoned")
        await plant.assert_kept()


async def test_the_sweep_removes_a_registration_of_nobody_after_two_looks():
    async with plant_of() as plant:
        await plant.until(lambda: plant.scale_set is not None if plant.github.state.sets else False)
        name = registered_name(RunnerName("runner-" + "ab" * 12), 1)
        register = plant.github.state.register
        register("acme", name, labels=(), group_id=1, work_folder="", one=plant.scale_set)
        theirs = plant.github.state.add_set("acme", "other", 1, [("System", "other")])
        lookalike = registered_name(RunnerName("runner-" + "cd" * 12), 1)
        register("acme", lookalike, labels=(), group_id=1, work_folder="", one=theirs)
        register("acme", "runner-by-hand", labels=(), group_id=1, work_folder="", one=plant.scale_set)
        await plant.until(lambda: plant.source.status().sets[0].set_id > 0)
        await plant.source.sweep()
        assert len(plant.github.state.runners) == 3
        await plant.source.sweep()
        left = sorted(one.name for one in plant.github.state.runners.values())
        assert left == sorted([lookalike, "runner-by-hand"])
        assert plant.source.tally.orphans == 1


async def test_the_sweep_leaves_the_registrations_of_records_alone():
    async with plant_of() as plant:
        plant.behave = waits
        run = plant.dispatch(3)
        await plant.github.until(lambda: any(job.runner for job in run.jobs))
        for _ in range(4):
            await plant.source.sweep()
        records = await done(plant, run)
        assert len(succeeded(records)) == len(records) == 3


async def test_an_end_that_no_message_told_is_found_out():
    async with plant_of(timing=replace(QUICK, end_grace=3600.0)) as plant:
        plant.hook = True
        ended = asyncio.Event()

        async def quiet(plant: Plant, name):
            runner = await plant.take_job(name)
            await plant.until(lambda: plant._named(name))
            plant.github.state.finish(runner, "failed")
            plant.scale_set.events.clear()
            await ended.wait()
            return 0

        plant.behave = quiet
        run = plant.dispatch(1)
        await plant.github.until(lambda: run.done)
        plant.scale_set.events.clear()
        await plant.source.sweep()
        assert plant.source.tally.mended == 0
        await plant.source.sweep()
        ended.set()
        (record,) = await done(plant, run)
        assert record.completed is not None
        assert (record.completed.result, record.outcome.reason.value) == ("failure", "job_failed")


async def test_a_hook_names_its_own_job_only():
    async with plant_of() as plant:
        plant.github.state.assignment.hold_started = 3600.0
        run = plant.dispatch(1)
        other = plant.github.dispatch_workflow("acme/shop", [])
        await plant.github.until(lambda: bool(run.jobs[0].runner))
        runner = runner_of(run.jobs[0].runner_name)
        assert runner is not None
        assert await plant.source.naming.reported(runner, "acme/shop", other.id) is None
        with pytest.raises(OrchestratorError):
            await plant.source.naming.reported(runner, "acme/nothing", run.id)
        with pytest.raises(GiveUpError) as told:
            await plant.source.naming.reported(RunnerName("runner-" + "0" * 24), "acme/shop", run.id)
        assert told.value.reason == "runner_unknown"
        record = await plant.source.naming.reported(runner, "acme/shop", run.id)
        assert record is not None
        assert record.offer.caller.facts["run_id"] == str(run.id)
        again = await plant.source.naming.reported(runner, "acme/shop", run.id)
        assert again is not None
        assert again.platform_key == record.platform_key
        with pytest.raises(GiveUpError) as told:
            await plant.source.naming.reported(runner, "acme/shop", run.id + 1)
        assert told.value.reason == "job_facts_disagree"
        assert plant.source.tally.mismatches == 1
        await done(plant, run)


async def test_a_revocation_that_github_does_not_answer_is_repeated():
    async with plant_of() as plant:
        plant.behave = waits
        run = plant.dispatch(1)
        await plant.github.until(lambda: bool(plant.github.state.runners))
        (runner,) = plant.github.state.runners.values()
        record = plant.engine.record_of_runner(runner_of(runner.name))
        assert record is not None
        plant.github.faults.add(Fault.BAD_GATEWAY, AGENT, times=7)
        plant.github.state.cancel(run)
        await plant.engine.cancel(record.id, "test")
        await plant.at_rest()
        await plant.assert_kept()


async def test_a_receipt_says_what_became_of_the_registration():
    """Used up by a job that was done, gone because GitHub said so, and not there for one that was never registered."""
    async with plant_of() as plant:
        await done(plant, plant.dispatch(1))
        (used_up,) = await plant.receipts()
        assert [(one.what, one.how) for one in used_up.access] == [("github_registration", "used_up")]

        async def waits(plant: Plant, name):
            await asyncio.Event().wait()

        plant.behave = waits
        plant.github.state.assignment.hold_started = 30.0
        plant.dispatch(1)
        await plant.until(lambda: any(plant.engine.record(job).bound for job in plant.engine.live_ids()))
        await plant.until(lambda: plant.source.tally.registered == 2)
        (job,) = plant.engine.live_ids()
        await plant.engine.cancel(job, "tester")
        await plant.until(lambda: plant.engine.record(job) is None)
        gone = (await plant.receipts())[1]
        assert (gone.job.id, gone.outcome.reason) == (job, "cancelled")
        assert [(one.what, one.how) for one in gone.access] == [("github_registration", "gone")]
