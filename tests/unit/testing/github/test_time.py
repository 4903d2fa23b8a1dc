"""Rules of a minute, a day, a week, tested by stepping the clock."""

from __future__ import annotations

import asyncio

from platform_clients import SETS, HandRunner

from orchestrator.testing.github.clock import GitHubClock, instant, rest_time


async def test_timers_fire_in_order_at_their_time():
    clock, seen = GitHubClock(1000, frozen=True), []
    clock.call_later(20, lambda: seen.append(("late", clock.now())))
    clock.call_later(10, lambda: seen.append(("early", clock.now())))
    cancel = clock.call_later(5, lambda: seen.append(("never", clock.now())))
    cancel()
    await clock.step(9)
    assert (seen, clock.now()) == ([], 1009)
    await clock.step(20)
    assert seen == [("early", 1010), ("late", 1020)]
    assert clock.now() == 1029


async def test_a_running_clock_runs_and_can_be_stepped():
    clock, done = GitHubClock(1000), asyncio.Event()
    clock.call_later(0.02, done.set)
    async with asyncio.timeout(5):
        await done.wait()
    clock.call_later(3600, done.clear)
    await clock.step(3601)
    assert not done.is_set()
    assert clock.now() > 4600
    clock.close()


async def test_waiting_ends_by_the_clock_or_before_it():
    clock = GitHubClock(frozen=True)
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(clock.wait(future, 50))
    await asyncio.sleep(0)
    await clock.step(49)
    assert not waiting.done()
    await clock.step(2)
    assert await waiting is False
    future = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(clock.wait(future, 50))
    future.set_result(None)
    assert await waiting is True


def test_times_are_written_as_each_side_writes_them():
    assert instant(None) == "0001-01-01T00:00:00Z"
    assert instant(1_767_225_600.1234) == "2026-01-01T00:00:00.123Z"
    assert rest_time(1_767_225_600.9) == "2026-01-01T00:00:00Z"
    assert rest_time(None) is None


async def test_a_poll_is_held_for_fifty_seconds(github, listener, options):
    options.poll_hold = 50
    one = await listener.make_set()
    session = await listener.open(one["id"])
    waiting = asyncio.create_task(listener.poll(session))
    held = github.state.sets[one["id"]]
    await github.until(lambda: held.session is not None and held.session.polls == 1)
    await github.clock.step(51)
    assert (await asyncio.wait_for(waiting, 5)).status == 202


async def test_a_set_nobody_listens_to_goes_after_a_week(github, listener):
    one = await listener.make_set()
    await listener.open(one["id"])
    await github.clock.step(6 * 86_400)
    assert one["id"] in github.state.sets
    await github.clock.step(86_400 + 1)
    assert github.state.sets == {}
    await listener.connect()
    assert "RunnerScaleSetNotFoundException" in (await listener.ask("GET", f"{SETS}/{one['id']}")).type_name


async def test_a_running_job_keeps_its_set(github, listener, options):
    options.lost_runner = options.queued_job = 30 * 86_400
    one = await listener.make_set()
    session = await listener.open(one["id"])
    github.dispatch_workflow("acme/shop")
    await listener.poll(session)
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    await github.clock.step(8 * 86_400)
    assert one["id"] in github.state.sets
    await runner.complete()
    await github.clock.step(3_601)
    assert github.state.sets == {}


async def test_a_job_is_queued_for_a_day_at_most(github):
    run = github.dispatch_workflow("acme/shop")
    await github.clock.step(86_399)
    assert not run.done
    await github.clock.step(2)
    assert run.jobs[0].conclusion == "failure"


async def test_a_runner_that_never_came_goes_after_a_day(github, listener):
    one = await listener.make_set()
    await listener.generate(one["id"], "r-1")
    await github.clock.step(86_399)
    assert len(github.state.runners) == 1
    await github.clock.step(2)
    assert github.state.runners == {}


async def test_idle_runners_may_be_removed_early(github, listener, options):
    options.idle_jit, options.poll_hold = 180, 300
    one = await listener.make_set()
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    waiting = asyncio.create_task(runner.job())
    await github.until(lambda: runner.registered.waiter is not None or github.counters["GET /_broker/message"] == 1)
    await github.clock.step(181)
    assert (await asyncio.wait_for(waiting, 5)).status == 403
    assert github.state.runners == {}


async def test_a_lost_runner_s_job_is_abandoned(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.events(session)
    await listener.generate(one["id"], "r-1")
    await HandRunner(listener, "r-1").come()
    await github.clock.step(599)
    assert not run.done
    await github.clock.step(2)
    assert run.jobs[0].result == "abandoned"
    assert github.state.runners == {}


async def test_a_silent_session_stops_blocking(github, listener):
    one = await listener.make_set()
    await listener.open(one["id"])
    await github.clock.step(119)
    assert (await listener.ask("POST", f"{SETS}/{one['id']}/sessions", json={"ownerName": "b"})).status == 409
    await github.clock.step(2)
    assert (await listener.ask("POST", f"{SETS}/{one['id']}/sessions", json={"ownerName": "b"})).status == 200
