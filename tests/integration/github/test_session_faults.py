"""The session breaks in every way that is known of; jobs run all the same."""

from __future__ import annotations

import time

import pytest
from github_plant import QUICK, Plant, plant_of, succeeded

from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import Flavour
from orchestrator.testing.github.tokens import Kind


async def listening(plant: Plant) -> None:
    await plant.until(lambda: bool(plant.github.state.sets) and plant.scale_set.session is not None)
    await plant.until(lambda: plant.scale_set.session is not None and plant.scale_set.session.polls > 0)


async def runs_a_job(plant: Plant, jobs: int = 2) -> None:
    run = plant.dispatch(jobs)
    await plant.github.until(lambda: run.done, 20)
    await plant.at_rest()
    records = await plant.assert_kept()
    assert [job.conclusion for job in run.jobs] == ["success"] * jobs
    assert [job.starts for job in run.jobs] == [1] * jobs
    assert len(succeeded(records)) >= jobs


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_a_lost_session_is_made_anew(flavour):
    async with plant_of(flavour) as plant:
        await listening(plant)
        first = plant.scale_set.session
        plant.github.lose_session(plant.scale_set)
        await listening(plant)
        assert plant.scale_set.session is not first
        assert plant.source.tally.sessions_lost >= 1
        await runs_a_job(plant)


async def test_a_session_lost_while_jobs_run_costs_none_of_them():
    async with plant_of() as plant:
        run = plant.dispatch(4)
        await plant.github.until(lambda: any(job.runner for job in run.jobs))
        plant.github.lose_session(plant.scale_set)
        await plant.github.until(lambda: run.done, 20)
        await plant.at_rest()
        await plant.assert_kept()
        assert [job.starts for job in run.jobs] == [1] * 4


@pytest.mark.parametrize("kinds", [(Kind.QUEUE,), (Kind.ADMIN,), (Kind.QUEUE, Kind.ADMIN)])
async def test_tokens_that_expire_before_their_time_are_renewed(kinds):
    async with plant_of() as plant:
        await listening(plant)
        for kind in kinds:
            assert plant.github.expire_tokens(kind)
        plant.github.cut("GET /scalesets/message")
        await runs_a_job(plant)
        assert plant.source.tally.sessions == 1, "the same session goes on with a new token"


async def test_a_session_without_a_queue_is_not_used():
    async with plant_of(start=False) as plant:
        plant.github.faults.empty_queue_url = True
        await plant.start()
        await plant.until(lambda: plant.source.status().sets[0].waiting_for == "github_session_unusable")
        plant.github.faults.empty_queue_url = False
        await runs_a_job(plant)


@pytest.mark.parametrize("flavour", list(Flavour))
async def test_a_vanished_scale_set_is_made_again(flavour):
    async with plant_of(flavour) as plant:
        await listening(plant)
        former = plant.scale_set
        plant.github.state.remove_set(former)
        await plant.until(lambda: bool(plant.github.state.sets))
        assert plant.scale_set is not former
        await runs_a_job(plant)


async def test_jobs_of_a_vanished_set_run_in_the_new_one():
    """What the old set had to say is lost with it: names come by the hook, ends from GitHub's API."""
    async with plant_of() as plant:
        plant.hook = True
        plant.github.options.poll_hold = 0.1
        run = plant.dispatch(3)
        await plant.github.until(lambda: any(job.runner for job in run.jobs))
        plant.github.state.remove_set(plant.scale_set)
        await plant.github.until(lambda: run.done, 20)
        await plant.at_rest()
        assert len(succeeded(await plant.assert_kept())) == 3


@pytest.mark.parametrize("fault", [Fault.BAD_GATEWAY, Fault.TEXT, Fault.EMPTY, Fault.TRUNCATED, Fault.GARBAGE])
async def test_a_burst_of_bad_answers_is_outlasted(fault):
    async with plant_of() as plant:
        await listening(plant)
        plant.github.faults.add(fault, times=25)
        plant.github.cut("GET /scalesets/message")
        await runs_a_job(plant, 3)


async def test_a_poll_that_hangs_is_given_up():
    async with plant_of(start=False) as plant:
        plant.poll_seconds = 0.3
        plant.github.options.poll_hold = 0.1
        plant.github.faults.add(Fault.HANG, "GET /scalesets/message")
        await plant.start()
        await runs_a_job(plant)


async def test_a_poll_that_the_client_does_not_end_is_ended():
    async with plant_of(start=False, timing=QUICK.__class__(**{**_fields(QUICK), "poll_limit": 0.3})) as plant:
        plant.poll_seconds = 3600.0
        plant.github.options.poll_hold = 0.1
        plant.github.faults.add(Fault.HANG, "GET /scalesets/message")
        await plant.start()
        await runs_a_job(plant)


def _fields(one) -> dict:
    return {name: getattr(one, name) for name in one.__slots__}


async def test_our_own_former_session_is_ended_at_once():
    async with plant_of() as plant:
        plant.github.options.session_idle = None  # GitHub would never let it go
        await listening(plant)
        former = plant.scale_set.session
        await plant.kill()
        await plant.start()
        await listening(plant)
        assert plant.scale_set.session is not former
        assert plant.source.tally.takeovers == 1
        await runs_a_job(plant)


async def test_another_listeners_session_is_left_alone_and_waited_for():
    async with plant_of(start=False) as plant:
        plant.github.options.session_idle = None
        one = plant.github.state.add_set("acme", "zt", 1, [("System", "zt")])
        theirs = plant.github.state.open_session(one, "another")
        await plant.start()
        await plant.until(lambda: plant.source.status().sets[0].stage == "conflict")
        assert plant.source.status().sets[0].waiting_for == "github_session_conflict"
        assert one.session is theirs
        plant.github.state.end_session(one)
        await runs_a_job(plant)


async def test_a_session_whose_answer_was_lost_is_waited_out():
    async with plant_of(start=False) as plant:
        plant.github.options.session_idle = 0.2
        plant.github.faults.add(Fault.DONE_BUT_RESET, "POST /_apis/runtime/runnerscalesets/{id}/sessions")
        await plant.start()
        await runs_a_job(plant)


async def test_a_stopped_source_leaves_no_session():
    async with plant_of() as plant:
        await listening(plant)
        await plant.source.stop()
        assert plant.scale_set.session is None
        assert plant.notes.kept == {"default/zt": ""}
        assert plant.source.status().sets[0].stage == "stopped"
        await plant.source.stop()


async def test_a_stopped_github_does_not_hold_up_the_stop():
    async with plant_of() as plant:
        await listening(plant)
        await plant.github.stop()
        before = time.monotonic()
        await plant.source.stop()
        assert time.monotonic() - before < 5


async def test_wall_clocks_that_jump_change_nothing(monkeypatch):
    async with plant_of() as plant:
        await listening(plant)
        real = time.time_ns
        for hours in (-30, 30):
            monkeypatch.setattr(time, "time_ns", lambda hours=hours: real() + hours * 3600 * 10**9)
            await runs_a_job(plant, 1)


async def test_github_far_ahead_in_time_is_followed():
    """A day passes at GitHub in no time: every token and session of before is too old."""
    async with plant_of() as plant:
        await listening(plant)
        await plant.github.clock.step(26 * 3600)
        await runs_a_job(plant)
