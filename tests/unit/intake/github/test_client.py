"""The Actions service's client against a stateful server that speaks the protocol, with everything that goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from opened import AGENTS, REGISTER, SETS, Opened, opened, until

from orchestrator.intake.github import errors
from orchestrator.intake.github.scale_sets.messages import JobMessageKind
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import Flavour, JobPlan, Options
from orchestrator.testing.github.tokens import Kind

JIT = "POST " + SETS + "/{id}/generatejitconfig"
POLL = "GET /scalesets/message"
BROKEN = (Fault.BAD_GATEWAY, Fault.RESET, Fault.TEXT, Fault.EMPTY, Fault.GARBAGE)


@pytest.fixture
async def one(tmp_path):
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture
async def listening(one: Opened):
    one.server.options.session_idle = None
    scale_set = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    session = await one.github.actions.create_session(scale_set.id, "me")
    return one, scale_set, session


def endpoint(one: Opened, part: str) -> str:
    (found,) = [name for name in one.server.counters if part in name]
    return found


# --- scale sets -------------------------------------------------------------------------------------------------


async def test_a_scale_set_is_made_once(one):
    made = await one.github.actions.ensure_scale_set("zt", "", [])
    again = await one.github.actions.ensure_scale_set("zt", "default", ["zt"])
    assert (made.id, made.name, made.labels, made.group_id) == (again.id, "zt", ("zt",), 1)
    assert one.calls("POST " + SETS) == 1
    assert (await one.github.actions.get_scale_set(made.id)).id == made.id
    assert one.server.state.sets[made.id].setting == {"disableUpdate": True}


async def test_an_answer_that_was_lost_does_not_make_a_second_scale_set(one):
    one.server.faults.add(Fault.DONE_BUT_RESET, "POST " + SETS)
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    assert list(one.server.state.sets) == [made.id]
    assert one.calls("POST " + SETS) == 1


async def test_two_who_make_it_at_once_get_the_same_one(one):
    first, second = await asyncio.gather(
        one.github.actions.ensure_scale_set("zt", "", ["zt"]), one.github.actions.ensure_scale_set("zt", "", ["zt"])
    )
    assert first.id == second.id


async def test_labels_are_brought_up_to_date(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    changed = await one.github.actions.ensure_scale_set("zt", "", ["zt", "gpu"])
    assert changed.id == made.id
    assert one.calls("PATCH " + SETS + "/{id}") == 1


async def test_names_are_escaped(one):
    made = await one.github.actions.ensure_scale_set("zt & co/é", "", ["zt"])
    assert (await one.github.actions.ensure_scale_set("zt & co/é", "", ["zt"])).id == made.id


async def test_a_runner_group_that_is_not_there(one):
    with pytest.raises(errors.RunnerGroupUnknownError):
        await one.github.actions.ensure_scale_set("zt", "no such group", ["zt"])


async def test_a_scale_set_that_is_gone(one):
    made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    await one.github.actions.delete_scale_set(made.id)
    await one.github.actions.delete_scale_set(made.id)
    with pytest.raises(errors.ScaleSetGoneError):
        await one.github.actions.get_scale_set(made.id)
    with pytest.raises(errors.ScaleSetGoneError):
        await one.github.actions.create_session(made.id, "me")
    with pytest.raises(errors.ScaleSetGoneError):
        await one.github.actions.generate_jit(made.id, "r-1")


# --- sessions ---------------------------------------------------------------------------------------------------


async def test_a_second_session_conflicts_until_the_first_one_ends(listening):
    one, scale_set, session = listening
    assert session.statistics is not None
    assert (session.token in repr(session), session.queue_url in repr(session)) == (False, False)
    with pytest.raises(errors.SessionConflictError) as caught:
        await one.github.actions.create_session(scale_set.id, "other")
    assert caught.value.call.status == 409
    await one.github.actions.delete_session(session)
    await one.github.actions.delete_session(session)
    assert (await one.github.actions.create_session(scale_set.id, "other")).id != session.id


async def test_a_lost_session_is_told_as_such_by_each_call(listening):
    one, scale_set, session = listening
    one.server.lose_session(one.server.state.sets[scale_set.id])
    with pytest.raises(errors.SessionGoneError):
        await one.github.actions.poll(session, 0, 1)
    with pytest.raises(errors.SessionGoneError):
        await one.github.actions.refresh_session(session)
    await one.github.actions.delete_session(session)
    assert await one.github.actions.create_session(scale_set.id, "me")


async def test_a_session_without_a_queue_is_taken_back(one):
    scale_set = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    one.server.faults.empty_queue_url = True
    with pytest.raises(errors.SessionGoneError) as caught:
        await one.github.actions.create_session(scale_set.id, "me")
    assert caught.value.reason == "github_session_unusable"
    one.server.faults.empty_queue_url = False
    assert await one.github.actions.create_session(scale_set.id, "me")


async def test_a_session_whose_answer_was_lost_is_not_asked_for_again(one):
    scale_set = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
    one.server.faults.add(Fault.DONE_BUT_500, "/sessions")
    with pytest.raises(errors.UnavailableError):
        await one.github.actions.create_session(scale_set.id, "me")
    assert one.calls("POST " + SETS + "/{id}/sessions") == 1


async def test_the_queue_token_is_renewed_early(listening):
    one, _, session = listening
    first = session.token
    one.server.options.poll_hold = 0.01
    assert await one.github.actions.poll(session, 0, 1) is None
    assert (session.generation, session.token) == (0, first)
    await one.server.clock.step(3000)
    assert await one.github.actions.poll(session, 0, 1) is None
    assert session.generation == 1
    assert session.token != first


async def test_the_queue_token_is_renewed_when_it_is_refused(listening):
    one, _, session = listening
    one.server.options.poll_hold = 0.01
    one.server.expire_tokens(Kind.QUEUE)
    assert await one.github.actions.poll(session, 0, 1) is None
    one.server.expire_tokens(Kind.QUEUE)
    await one.github.actions.acknowledge(session, 999)
    assert session.generation == 2


async def test_those_who_meet_a_refused_queue_token_renew_it_once(listening):
    one, _, session = listening
    one.server.expire_tokens(Kind.QUEUE)
    await asyncio.gather(*(one.github.actions.acknowledge(session, number) for number in range(1, 9)))
    assert session.generation == 1


async def test_an_early_renewal_that_fails_does_not_stop_polls(listening):
    one, _, session = listening
    one.server.options.poll_hold = 0.01
    await one.server.clock.step(3000)
    one.server.faults.add(Fault.BAD_GATEWAY, "PATCH " + SETS, times=100)
    assert await one.github.actions.poll(session, 0, 1) is None
    tried = one.calls("PATCH " + SETS + "/{id}/sessions/{session}")
    assert await one.github.actions.poll(session, 0, 1) is None
    assert one.calls("PATCH " + SETS + "/{id}/sessions/{session}") == tried, "it waits before it tries again"


# --- messages ---------------------------------------------------------------------------------------------------


async def test_a_job_from_its_announcement_to_its_runner(listening):
    one, _, session = listening
    actions = one.github.actions
    run = one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
    message = await actions.poll(session, 0, 5)
    (job,) = message.jobs
    assert (job.kind, job.run_id, job.repository) == (JobMessageKind.ASSIGNED, run.id, "shop")
    assert job.assigned_at_ns is not None
    assert message.statistics.assigned == 1
    again = await actions.poll(session, 0, 5)
    assert (again.id, again.jobs) == (message.id, message.jobs), "it comes again until it is acknowledged"
    await actions.acknowledge(session, message.id)
    await actions.acknowledge(session, message.id)
    one.server.options.poll_hold = 0.01
    assert await actions.poll(session, message.id, 5) is None


async def test_capacity_is_what_the_service_may_assign(listening):
    one, _, session = listening
    one.server.options.poll_hold = 0.01
    one.server.dispatch_workflow("acme/shop", [JobPlan(name=f"j{number}", labels=("zt",)) for number in range(3)])
    assert await one.github.actions.poll(session, 0, -1) is None
    message = await one.github.actions.poll(session, 0, 2)
    assert len(message.jobs) == 2


async def test_jobs_are_acquired_on_a_server_that_announces_them(tmp_path):
    async with opened(tmp_path, options=Options(flavour=Flavour.GHES)) as one:
        actions = one.github.actions
        scale_set = await actions.ensure_scale_set("zt", "", ["zt"])
        session = await actions.create_session(scale_set.id, "me")
        one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
        message = await actions.poll(session, 0, 5)
        (job,) = message.jobs
        assert job.kind is JobMessageKind.AVAILABLE
        assert [item.request_id for item in await actions.acquirable_jobs(scale_set.id)] == [job.request_id]
        one.server.expire_tokens(Kind.QUEUE)
        assert await actions.acquire_jobs(session, [job.request_id, 0]) == [job.request_id]
        assert await actions.acquire_jobs(session, [job.request_id]) == [], "it is won already"
        assert await actions.acquirable_jobs(scale_set.id) == []


async def test_request_ids_of_zero_are_never_asked_for(listening):
    one, _, session = listening
    assert await one.github.actions.acquire_jobs(session, [0, 0]) == []
    assert not [name for name in one.server.counters if "acquirejobs" in name]


@pytest.mark.parametrize(
    "fault", [Fault.BAD_GATEWAY, Fault.RESET, Fault.TRUNCATED, Fault.GARBAGE, Fault.TEXT, Fault.EMPTY]
)
async def test_a_poll_that_fails_is_the_callers_to_repeat(listening, fault):
    one, _, session = listening
    one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
    one.server.faults.add(fault, POLL, seconds=0.01)
    with pytest.raises(errors.UnavailableError) as caught:
        await one.github.actions.poll(session, 0, 1)
    assert (one.waits, caught.value.call.endpoint) == ([], "poll")
    message = await one.github.actions.poll(session, 0, 1)
    assert len(message.jobs) == 1, "nothing was lost"


async def test_a_byte_order_mark_before_a_message(listening):
    one, _, session = listening
    one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
    one.server.faults.add(Fault.BOM, POLL)
    assert len((await one.github.actions.poll(session, 0, 1)).jobs) == 1


async def test_a_poll_into_a_dead_connection_ends(tmp_path):
    async with opened(tmp_path, poll_seconds=0.05) as one:
        scale_set = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
        session = await one.github.actions.create_session(scale_set.id, "me")
        one.server.faults.add(Fault.HANG, POLL)
        with pytest.raises(errors.UnavailableError, match="no answer in time"):
            await one.github.actions.poll(session, 0, 1)


async def test_a_poll_that_is_cut_and_one_that_is_cancelled(listening):
    one, _, session = listening
    poll = asyncio.ensure_future(one.github.actions.poll(session, 0, 1))
    await until(lambda: one.server.state.sets[session.set_id].session.polls == 1)
    assert one.server.cut(POLL) == 1
    with pytest.raises(errors.UnavailableError):
        await poll
    await until(lambda: one.server.state.sets[session.set_id].session.polls == 0)
    poll = asyncio.ensure_future(one.github.actions.poll(session, 0, 1))
    await until(lambda: one.server.state.sets[session.set_id].session.polls == 1)
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll


async def test_a_slow_poll_keeps_nobody_waiting(listening):
    one, scale_set, session = listening
    poll = asyncio.ensure_future(one.github.actions.poll(session, 0, 1))
    await until(lambda: one.server.state.sets[session.set_id].session.polls == 1)
    made = await asyncio.gather(*(one.github.actions.generate_jit(scale_set.id, f"r-{n}") for n in range(100)))
    assert len({one_made.runner_id for one_made in made}) == 100
    assert not poll.done()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll


async def test_a_message_with_zero_statistics_still_has_its_jobs(listening):
    one, _, session = listening
    one.server.faults.zero_statistics = True
    one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
    message = await one.github.actions.poll(session, 0, 1)
    assert (message.statistics.assigned, len(message.jobs)) == (0, 1)


# --- runners ----------------------------------------------------------------------------------------------------


async def test_a_runner_is_registered_found_and_removed(listening):
    one, scale_set, _ = listening
    actions = one.github.actions
    made = await actions.generate_jit(scale_set.id, "r-1", "_work")
    assert ".runner" in json.loads(base64.b64decode(made.encoded))
    found = await actions.runner_by_name("r-1")
    assert (found.id, found.scale_set_id, found.busy) == (made.runner_id, scale_set.id, False)
    assert [runner.name for runner in await actions.runners()] == ["r-1"]
    await actions.remove_runner(made.runner_id)
    await actions.remove_runner(made.runner_id)
    assert await actions.runner_by_name("r-1") is None


async def test_a_name_that_is_taken(listening):
    one, scale_set, _ = listening
    await one.github.actions.generate_jit(scale_set.id, "r-1")
    with pytest.raises(errors.RunnerExistsError):
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert one.calls(JIT) == 2


@pytest.mark.parametrize("fault", [Fault.DONE_BUT_500, Fault.DONE_BUT_RESET, Fault.TRUNCATED, Fault.GARBAGE])
async def test_a_registration_whose_answer_is_lost_is_taken_back_and_not_repeated(listening, fault):
    one, scale_set, _ = listening
    one.server.faults.add(fault, "generatejitconfig")
    with pytest.raises(errors.JitConfigLostError):
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert one.calls(JIT) == 1
    assert not one.server.state.runners, "the registration that nobody has is removed"
    assert (await one.github.actions.generate_jit(scale_set.id, "r-2")).name == "r-2"


async def test_a_failed_registration_of_which_nothing_is_found(listening):
    one, scale_set, _ = listening
    one.server.faults.add(Fault.UNAVAILABLE, "generatejitconfig")
    with pytest.raises(errors.JitConfigLostError):
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert one.calls(JIT) == 1


async def test_a_token_that_cannot_be_had_is_no_lost_registration(listening):
    one, scale_set, _ = listening
    one.server.expire_tokens(Kind.ADMIN)
    one.server.faults.add(Fault.BAD_GATEWAY, REGISTER, times=99)
    with pytest.raises(errors.UnavailableError) as caught:
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert (type(caught.value), caught.value.call.endpoint) == (errors.UnavailableError, "runner_registration")
    assert one.calls(REGISTER) == 1 + 5, "there was no look for the name, for nothing was asked"


async def test_a_registration_that_was_held_back_is_repeated(listening):
    one, scale_set, _ = listening
    one.server.faults.add(Fault.RATE_LIMITED, "generatejitconfig", times=2, seconds=3)
    assert (await one.github.actions.generate_jit(scale_set.id, "r-1")).name == "r-1"
    assert [round(wait, 2) for wait in one.waits] == [3.15, 3.15]


async def test_a_limit_that_lasts_is_the_callers_to_wait_for(listening):
    one, scale_set, _ = listening
    one.server.faults.add(Fault.RATE_LIMITED, "generatejitconfig", seconds=400)
    with pytest.raises(errors.RateLimitedError) as caught:
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert (caught.value.retry_after_seconds, one.waits) == (400, [])


# --- failures in general ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault.BAD_GATEWAY, Fault.UNAVAILABLE, Fault.RESET, Fault.TEXT, Fault.EMPTY, Fault.GARBAGE]
)
async def test_a_burst_of_failures_is_waited_out(listening, fault):
    one, scale_set, _ = listening
    one.server.faults.add(fault, "GET " + SETS + "/{id}", times=3, seconds=0.01)
    assert (await one.github.actions.get_scale_set(scale_set.id)).id == scale_set.id
    assert one.waits == [0.75, 1.5, 3.0]
    assert one.github.stats().endpoints["get_scale_set"].retries == 3


async def test_a_call_that_hangs_is_ended_and_tried_again(tmp_path):
    async with opened(tmp_path, timeout_seconds=0.2) as one:
        made = await one.github.actions.ensure_scale_set("zt", "", ["zt"])
        one.server.faults.add(Fault.HANG, "GET " + SETS + "/{id}")
        assert (await one.github.actions.get_scale_set(made.id)).id == made.id
        assert one.waits == [0.75]


async def test_the_service_is_stopped_and_started_again(listening):
    one, scale_set, _ = listening
    await one.server.stop()
    with pytest.raises(errors.UnavailableError):
        await one.github.actions.get_scale_set(scale_set.id)
    one.waits.clear()
    with pytest.raises(errors.UnavailableError) as caught:
        await one.github.actions.generate_jit(scale_set.id, "r-1")
    assert (caught.value.unsent, len(one.waits)) == (True, 4), "no connection, no effect: it is tried again"
    await one.server.start()
    assert (await one.github.actions.generate_jit(scale_set.id, "r-1")).name == "r-1"


async def test_a_failure_that_lasts_is_told_with_its_request_id(listening):
    one, scale_set, _ = listening
    one.server.faults.add(Fault.TEXT, "GET " + SETS + "/{id}", times=99)
    with pytest.raises(errors.UnavailableError) as caught:
        await one.github.actions.get_scale_set(scale_set.id)
    assert one.calls("GET " + SETS + "/{id}") == 5
    call = caught.value.call
    assert (call.status, call.endpoint, bool(call.request_id)) == (500, "get_scale_set", True)
    assert call.request_id in str(caught.value)


async def test_an_admin_token_that_is_refused_is_fetched_anew_once(listening):
    one, scale_set, _ = listening
    one.server.expire_tokens(Kind.ADMIN)
    before = one.calls(REGISTER)
    await asyncio.gather(*(one.github.actions.get_scale_set(scale_set.id) for _ in range(10)))
    assert one.calls(REGISTER) == before + 1


async def test_a_service_that_refuses_every_token(listening):
    one, scale_set, _ = listening
    one.server.faults.add(Fault.UNAUTHORIZED, "GET " + SETS + "/{id}", times=99)
    with pytest.raises(errors.UnauthorizedError):
        await one.github.actions.get_scale_set(scale_set.id)
    assert one.calls("GET " + SETS + "/{id}") == 2


async def test_a_removal_that_a_job_forbids(listening):
    one, scale_set, _ = listening
    made = await one.github.actions.generate_jit(scale_set.id, "r-1")
    one.server.dispatch_workflow("acme/shop", [JobPlan(labels=("zt",))])
    runner = one.server.state.runners[made.runner_id]
    (run,) = one.server.state.runs.values()
    runner.job = run.jobs[0]
    with pytest.raises(errors.BusyError):
        await one.github.actions.remove_runner(made.runner_id)
    assert AGENTS in endpoint(one, "DELETE " + AGENTS)
