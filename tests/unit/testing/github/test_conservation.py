"""Whatever happens in whatever order: no job is in two places or in none, and no runner has two."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.testing.github.assignment import statistics
from orchestrator.testing.github.clock import GitHubClock
from orchestrator.testing.github.model import Flavour, JobPlan, JobState, Options
from orchestrator.testing.github.state import GitHubState

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["dispatch", "poll", "register", "online", "offline", "finish", "cancel", "step", "lose", "remove", "set"]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)


def check(state: GitHubState) -> None:
    places = Counter(list(state.assignment.unmatched))
    for one in state.sets.values():
        for queue in (one.backlog, one.available, one.acquired, one.assigned):
            places.update(queue.keys())
        numbers = statistics(one)
        assert numbers["totalAssignedJobs"] == len(one.assigned) + len(one.running)
        assert not (one.idle and one.assigned)
        assert all(runner.online and not runner.busy for runner in one.idle.values())
    at_work = [runner.job for runner in state.runners.values() if runner.busy]
    assert len(at_work) == len(set(at_work))
    for job in state.jobs.values():
        assert job.starts <= 1
        if job.state in (JobState.COMPLETED, JobState.WAITING):
            assert places[job.key] == 0
        elif job.state is JobState.RUNNING:
            assert places[job.key] == 0
            assert job.runner is not None
            assert job.runner.job is job
            assert job.runner.id in state.runners
        elif job.state is JobState.QUEUED and job.rounds:
            assert places[job.key] <= 1  # it rests before it is assigned again
        else:
            assert places[job.key] == 1
    assert all(count == 1 for count in places.values())


async def perform(state: GitHubState, name: str, number: int) -> None:
    runners, sets = list(state.runners.values()), list(state.sets.values())
    runner = runners[number % len(runners)] if runners else None
    one = sets[number % len(sets)] if sets else None
    if name == "dispatch":
        state.dispatch("acme/shop", [JobPlan(labels=(("zt", "other")[number % 2],))] * (1 + number % 3))
    elif name == "set" and len(sets) < 3:
        state.add_set("acme", f"s{next(state.ids)}", 1, [("System", ("zt", "other")[number % 2])])
    elif name == "poll" and one is not None:
        one.capacity = number
        state.assignment.pump(one)
        state.assignment.acquire(one, [job.request_id for job in one.available.values()])
    elif name == "register" and one is not None:
        state.register("acme", f"r{next(state.ids)}", labels=["zt"], group_id=1, work_folder="", one=one)
    elif name == "online" and runner is not None and not runner.online:
        state.come_online(runner)
    elif name == "offline" and runner is not None and runner.online and not runner.busy:
        state.go_offline(runner)
    elif name == "finish" and runner is not None and runner.job is not None:
        state.finish(runner, "succeeded")
    elif name == "cancel" and state.runs:
        state.cancel(list(state.runs.values())[number % len(state.runs)])
    elif name == "step":
        await state.clock.step((1, 61, 301, 601, 86_401, 8 * 86_400)[number])
    elif name == "lose" and one is not None:
        state.end_session(one)
    elif name == "remove" and one is not None and number == 0:
        state.remove_set(one)


@given(STEPS, st.sampled_from(Flavour))
def test_no_job_is_lost_or_doubled(steps, flavour):
    async def play() -> None:
        state = GitHubState(GitHubClock(1000, frozen=True), Options(flavour=flavour))
        state.add_repository("acme/shop")
        state.add_set("acme", "zt", 1, [("System", "zt")])
        # So that jobs run in most of what follows, and not only in the rare case.
        for name, number in (("poll", 2), ("register", 0), ("online", 0), ("dispatch", 2)):
            await perform(state, name, number)
        for name, number in steps:
            await perform(state, name, number)
            check(state)

    asyncio.run(play())
