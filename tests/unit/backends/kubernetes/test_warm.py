"""Warm runners: what there should be, who gets which, and that no kill at any await gives one to two jobs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pod_world import Cluster, Daemon, Fuse, broken, finished, shy

from orchestrator.backends.kubernetes.adoption import unfinished_runners
from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool
from orchestrator.backends.kubernetes.manifest import template_hash
from orchestrator.backends.kubernetes.pod import Condition, Container, Pod, Terminated, Waiting
from orchestrator.backends.kubernetes.warm import _Patience, warm_name
from orchestrator.backends.kubernetes.warm_plan import best_first, plan, pristine
from orchestrator.daemon.clock import SystemClock
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle import backoff
from orchestrator.lifecycle.observation import SECOND
from orchestrator.model import events as e
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.runner import RunnerName, RunnerSpec, RunnerState, runner_name
from orchestrator.testing.journal import MemoryJournal

POOL = KubernetesPool(
    PoolName("default"), "runners", "job:1", capacity=3, warm=2, warm_idle_seconds=1000, max_job_seconds=60
)
CONFIG = KubernetesConfig(
    installation="blue",
    pools={POOL.name: POOL},
    agent_image="agent:1",
    runner_api_url="https://127.0.0.1:1",
    runner_api_ca="ca",
    gateway_url="http://127.0.0.1:2",
)
TODAY = template_hash(POOL, CONFIG)
NOW = 1_800_000_000.0
READY = Container(running=True)
OVER = Container(terminated=Terminated())


def pod(number: int = 0, **changes) -> Pod:
    made = {"age": 10.0, "agent": READY, "phase": "Pending", "pool": "default", "warm": True, "template_hash": TODAY}
    made |= changes
    created = dt.datetime.fromtimestamp(NOW - made.pop("age"), dt.UTC).isoformat()
    return Pod(f"warm-{number}", f"uid-{number}", "1", created=created, **made)


# The plan.


def test_as_many_as_wanted_and_never_more_than_the_capacity_leaves():
    for live, missing in ((0, 2), (1, 2), (2, 1), (3, 0), (5, 0)):
        assert plan([], live, POOL, TODAY, NOW).create == missing
    assert plan([pod(1)], 0, POOL, TODAY, NOW).create == 1
    assert plan([], 0, POOL, TODAY, NOW, unseen=1).create == 1
    assert plan([pod(1), pod(2)], 0, POOL, TODAY, NOW) == plan([], 3, POOL, TODAY, NOW)


def test_for_each_job_that_is_owed_a_place_one_that_waits_is_given_up_and_no_more():
    pods = [pod(1), pod(2, agent=Container())]
    for owed, gone in ((0, ()), (1, (pods[1],)), (2, (pods[1], pods[0])), (3, (pods[1], pods[0]))):
        made = plan(pods, 0, POOL, TODAY, NOW, owed=owed)
        assert (made.delete, made.given_up) == (gone, len(gone))
    made = plan([pod(1, age=1001), pod(2)], 0, POOL, TODAY, NOW, owed=1)
    assert (len(made.delete), made.given_up) == (2, 1)


def test_what_jobs_need_is_given_back_the_least_ready_first():
    stuck = pod(1, agent=Container(waiting=Waiting("ImagePullBackOff")))
    starting, ready = pod(2, agent=Container()), pod(3)
    pool = replace(POOL, warm=3)
    for live, gone in ((0, ()), (1, (stuck,)), (2, (stuck, starting)), (3, (stuck, starting, ready))):
        assert plan([ready, stuck, starting], live, pool, TODAY, NOW).delete == gone


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"age": 1001}, 0),
        ({"template_hash": "old"}, 0),
        ({"agent": OVER}, 1),
        ({"agent": OVER, "job": READY}, 1),
        ({"phase": "Failed"}, 1),
        ({"disruption": Condition("DisruptionTarget", "True")}, 1),
    ],
    ids=["stale", "outdated", "agent over", "job runs", "failed", "being put out"],
)
def test_what_cannot_be_used_is_replaced(changes, failed):
    bad = pod(1, **changes)
    assert not pristine(bad, POOL, TODAY, NOW)
    made = plan([bad, pod(2)], 0, POOL, TODAY, NOW)
    assert (made.delete, made.failed, made.create) == ((bad,), failed, 1)


def test_a_pod_that_had_a_job_is_deleted_and_is_no_failure():
    made = plan([pod(1, agent=OVER)], 0, POOL, TODAY, NOW, spent={"uid-1"})
    assert (made.delete, made.failed) == ((pod(1, agent=OVER),), 0)


def test_what_is_being_deleted_is_neither_used_nor_deleted_again():
    going = pod(1, deletion="2026-01-01T00:00:00Z")
    assert not pristine(going, POOL, TODAY, NOW)
    assert plan([going], 0, POOL, TODAY, NOW).delete == ()
    assert plan([going], 2, POOL, TODAY, NOW).create == 0


def test_pods_of_one_age_are_not_all_replaced_at_once():
    many = [pod(number, age=950) for number in range(100)]
    pool = replace(POOL, warm=100, capacity=100)
    assert 20 < len(plan(many, 0, pool, TODAY, NOW).delete) < 80
    assert all(pristine(one, POOL, TODAY, NOW) for one in many)


def test_the_pod_whose_agent_asks_for_work_is_given_away_first():
    first, second, starting = pod(1, age=30), pod(2, age=20), pod(3, age=50, agent=Container())
    stuck = pod(4, age=90, agent=Container(waiting=Waiting("ErrImagePull")))
    assert best_first([starting, second, stuck, first], {"uid-2"}) == [second, first, starting]


_PODS = st.builds(
    lambda number, age, agent, phase, hash_, deletion: pod(
        number, age=age, agent=agent, phase=phase, template_hash=hash_, deletion=deletion
    ),
    st.integers(0, 10_000),
    st.floats(0, 1500),
    st.sampled_from([READY, OVER, Container(), Container(waiting=Waiting("ErrImagePull"))]),
    st.sampled_from(["Pending", "Pending", "Failed", "Unknown"]),
    st.sampled_from([TODAY, TODAY, "old"]),
    st.sampled_from(["", "", "2026-01-01T00:00:00Z"]),
)


@given(st.lists(_PODS, max_size=8, unique_by=lambda one: one.uid), st.integers(0, 8), st.integers(0, 3))
def test_a_plan_never_exceeds_the_capacity_and_comes_to_rest(pods, live, unseen):
    made = plan(pods, live, POOL, TODAY, NOW, unseen=unseen)
    assert live + len(pods) + unseen + made.create <= max(POOL.capacity, live + len(pods) + unseen)
    assert not set(made.delete) & {one for one in pods if one.deletion}
    kept = [one for one in pods if one not in made.delete and not one.deletion]
    assert all(pristine(one, POOL, TODAY, NOW) for one in kept)
    assert len(kept) <= min(POOL.warm, max(0, POOL.capacity - live))
    # With what was asked for done, and with nothing else going on, a second look has nothing left to do.
    settled = plan([*kept, *(pod(20_000 + number) for number in range(made.create))], live, POOL, TODAY, NOW)
    assert settled.delete == ()
    assert settled.create == 0 or any(one.deletion for one in pods) or made.delete or unseen


def test_names_are_dns_labels_and_differ():
    names = {warm_name(PoolName("p" * 63)) for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) <= 63 and name.startswith("warm-p") for name in names)


# What the journal says of pods.


def test_every_pod_that_an_unfinished_job_ever_had_is_somebodys():
    one, two, three = (JobId(f"memory.{number}.1") for number in range(3))

    def facts(job, *said):
        return [Fact(job, 0, event) for event in said]

    name = runner_name(one)
    started = e.ProvisionStarted(name, "d")
    again = facts(one, started, e.RunnerCreated(name, "u1"), e.RunnerVanished(name), started)
    bound_only = facts(
        two, e.ProvisionStarted(runner_name(two), "d"), e.RunnerBound(runner_name(two), "u2", EgressProof())
    )
    meant = facts(three, e.ProvisionStarted(runner_name(three), "d"), e.JobWaited(e.WaitReason.BACKEND_UNAVAILABLE))
    assert unfinished_runners([again, bound_only, meant]) == [
        (name, "u1"),
        (name, ""),
        (runner_name(two), "u2"),
        (runner_name(three), ""),
    ]


# Whole lives in memory.


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


def polling(daemon):
    return len(daemon.backend.warm.assignments.polls)


@pytest.fixture
async def cluster():
    made = Cluster()
    yield made
    await made.close()


@pytest.fixture
def journal():
    return MemoryJournal(SystemClock())


async def test_a_warm_runner_costs_a_job_no_write_before_its_end(cluster, journal):
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    before = list(cluster.writes)
    job = await daemon.offer(1)
    (record,) = await finished(journal, [job])
    assert record.outcome.reason is EndReason.COMPLETED
    assert record.runner == runner_name(job)
    assert record.bound_uid == record.runner_uid
    assert not any(name == record.runner for _, name in cluster.writes)
    used = next(name for method, name in cluster.writes[len(before) :] if method == "DELETE")
    assert ("POST", used) in before
    await until(lambda: polling(daemon) == 2)
    posts = sum(1 for method, _ in cluster.writes if method == "POST")
    assert (posts, len(cluster.writes) - posts) == (3, 1)
    assert await broken(cluster, daemon, journal, [job]) == []
    await daemon.stop()


async def test_jobs_and_warm_runners_together_stay_within_the_capacity(cluster, journal):
    cluster.quota = POOL.capacity
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    jobs = [await daemon.offer(number) for number in range(12)]
    records = await finished(journal, jobs, 20)
    assert {record.outcome.result for record in records} == {Result.SUCCESS}
    assert cluster.most <= POOL.capacity
    assert await broken(cluster, daemon, journal, jobs) == []
    await daemon.stop()


async def test_a_place_that_is_counted_late_is_taken_without_waiting_for_the_jobs_own_back_off(
    cluster, journal, monkeypatch
):
    """The quota's count stands still while pods go, as after an outage of the API server: what tells of a place comes
    before the place does."""
    monkeypatch.setattr(backoff, "_FIRST_NS", 3600 * SECOND)
    monkeypatch.setattr(backoff, "_LONGEST_NS", 3600 * SECOND)
    cluster.quota = POOL.capacity
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    cluster.counting = False
    jobs = [await daemon.offer(number) for number in range(9)]
    await until(lambda: not cluster.pods and cluster.refusals > 6)
    cluster.recount()
    records = await finished(journal, jobs, 20)
    assert {record.outcome.result for record in records} == {Result.SUCCESS}
    assert cluster.most <= POOL.capacity
    await until(lambda: polling(daemon) == 2)
    assert await broken(cluster, daemon, journal, jobs) == []
    await daemon.stop()


async def test_idle_warm_runners_keep_no_job_out_that_may_not_have_one_of_them(cluster, journal):
    """They fill the quota; an earlier daemon may have made the job's own pod, so it waits for a place, not for them."""
    cluster.quota = POOL.warm
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    job = JobId("memory.job-1.1")
    daemon.backend.adopt(runner_name(job), "")
    assert await daemon.offer(1) == job
    (record,) = await finished(journal, [job])
    assert record.outcome.result is Result.SUCCESS
    assert len([name for method, name in cluster.writes if method == "DELETE" and name.startswith("warm-")]) == 1
    await until(lambda: polling(daemon) == 2)
    assert await broken(cluster, daemon, journal, [job]) == []
    await daemon.stop()


async def test_one_warm_runner_makes_way_for_a_job_however_late_its_place_is_counted(cluster, journal):
    cluster.quota = POOL.warm
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    cluster.counting = False
    daemon.backend.adopt(runner_name(JobId("memory.job-1.1")), "")
    job = await daemon.offer(1)
    await until(lambda: len(cluster.pods) == 1)
    refusals = cluster.refusals
    await until(lambda: cluster.refusals > refusals + 1)
    assert len(cluster.pods) == 1
    cluster.recount()
    (record,) = await finished(journal, [job])
    assert record.outcome.result is Result.SUCCESS
    await daemon.stop()


def test_pods_that_are_refused_together_double_the_wait_once():
    patience = _Patience()
    for _ in range(8):
        patience.failed(100.0)
    assert (patience.failures, patience.until) == (1, 101.0)
    for _ in range(8):
        patience.failed(101.0, longest=15.0)
    assert (patience.failures, patience.until) == (2, 103.0)
    for _ in range(8):
        patience.failed(patience.until, longest=15.0)
    assert patience.failures == 10
    before = patience.until
    patience.failed(before, longest=15.0)
    assert patience.until == before + 15.0
    patience.failed(patience.until)
    assert patience.until == before + 15.0 + 300.0


async def test_without_warm_runners_a_pool_has_none(cluster, journal):
    some = Daemon(cluster, CONFIG, journal)
    await some.start()
    await until(lambda: polling(some) == 2)
    await some.stop()
    none = Daemon(cluster, replace(CONFIG, pools={POOL.name: replace(POOL, warm=0)}), journal)
    await none.start()
    await until(lambda: not cluster.pods)
    await none.stop()


async def test_the_next_daemon_uses_the_warm_runners_of_the_one_before(cluster, journal):
    first = Daemon(cluster, CONFIG, journal)
    await first.start()
    await until(lambda: polling(first) == 2)
    await first.stop()
    made = set(cluster.pods)
    second = Daemon(cluster, CONFIG, journal)
    await second.start()
    await until(lambda: polling(second) == 2)
    job = await second.offer(1)
    (record,) = await finished(journal, [job])
    assert record.outcome.result is Result.SUCCESS
    assert {name for method, name in cluster.writes if method == "DELETE"} <= made
    await second.stop()


async def test_runners_of_another_template_are_replaced_and_never_used(cluster, journal):
    first = Daemon(cluster, CONFIG, journal)
    await first.start()
    await until(lambda: polling(first) == 2)
    await first.stop()
    old = set(cluster.pods)
    second = Daemon(cluster, replace(CONFIG, agent_image="agent:2"), journal)
    await second.start()
    job = await second.offer(1)
    await finished(journal, [job])
    await until(lambda: polling(second) == 2 and not old & set(cluster.pods))
    assert await broken(cluster, second, journal, [job]) == []
    assert not {uid for _, uid in cluster.work} & {"uid-1", "uid-2"}
    await second.stop()


async def test_agents_that_fail_at_once_are_not_replaced_in_a_loop(cluster, journal):
    cluster.agent_code = 78
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await asyncio.sleep(0.5)
    assert sum(1 for method, _ in cluster.writes if method == "POST") <= 4
    await daemon.stop()


async def test_a_claim_waits_for_a_job_and_ends_without_one(cluster, journal):
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.backend.start()
    mine = daemon.backend.warm.assignments
    assert await mine.assigned("runners", "warm-x", "u1", 0.01) is None
    waits = asyncio.create_task(mine.assigned("runners", "warm-x", "u1", 5))
    await asyncio.sleep(0)
    daemon.backend.adopt(RunnerName("runner-a"), "u1")
    identity = await waits
    assert (identity.name, identity.uid) == ("runner-a", "u1")
    assert (await mine.assigned("runners", "runner-b", "u2")).name == "runner-b"
    assert not mine.polls
    assert not mine.waiting("warm-x", "u1")
    assert mine.waiting("warm-y", "u9")
    # Another runner took the name over: the pod that had it is nobody's any more, and for ever.
    daemon.backend.adopt(RunnerName("runner-a"), "u3")
    with pytest.raises(GiveUpError) as refused:
        await mine.assigned("runners", "warm-x", "u1", 0.01)
    assert refused.value.reason == "runner_unknown"
    await daemon.stop()


async def test_a_runner_that_may_have_been_made_gets_no_warm_one(cluster, journal):
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    job = JobId("memory.9.1")
    spec = RunnerSpec(runner_name(job), job, POOL.name, (), 60)
    daemon.backend.adopt(spec.name, "")
    await daemon.backend.create(spec)
    assert spec.name in cluster.pods
    await daemon.stop()


async def test_pods_that_went_while_no_daemon_was_there_cost_no_list_each(cluster, journal):
    daemon = Daemon(cluster, CONFIG, journal)
    asked, real = [], cluster.request

    async def request(method, path, **more):
        asked.append((method, path))
        return await real(method, path, **more)

    cluster.request = request
    await daemon.backend.start()
    names = [runner_name(JobId(f"memory.{number}.1")) for number in range(20)]
    for number, name in enumerate(names):
        daemon.backend.adopt(name, f"uid-gone-{number}")
    begun = len(asked)
    for name in names:
        assert (await daemon.backend.inspect(name)).state is RunnerState.ABSENT
        await daemon.backend.delete(name)
    assert len(asked) == begun, "the list that the watch began with is younger than the pods, and had none of them"
    await daemon.stop()


async def test_a_pod_made_before_an_upgrade_and_noted_by_nobody_is_made_again(cluster, journal):
    """Nobody can say any more whether it is what was sent, and it has no work."""
    job = JobId("memory.9.1")
    spec = RunnerSpec(runner_name(job), job, POOL.name, (), 60)
    pools = {POOL.name: replace(POOL, warm=0)}
    first = Daemon(cluster, replace(CONFIG, pools=pools), journal)
    await first.start()
    made = await first.backend.create(spec)
    await first.stop()
    same = Daemon(cluster, replace(CONFIG, pools=pools), journal)
    await same.start()
    same.backend.adopt(spec.name, "")
    assert not same.backend.is_as_sent(spec.name, made.uid)
    assert (await same.backend.create(spec)).uid == made.uid
    assert same.backend.is_as_sent(spec.name, made.uid)
    with pytest.raises(GiveUpError) as clash:
        await same.backend.create(replace(spec, deadline_seconds=61))
    assert clash.value.reason == "runner_name_clash"
    await same.stop()
    pools = {POOL.name: replace(POOL, warm=0, memory="4Gi")}
    second = Daemon(cluster, replace(CONFIG, pools=pools, agent_image="agent:2"), journal)
    await second.start()
    second.backend.adopt(spec.name, "")
    with pytest.raises(TryAgainError) as again:
        await second.backend.create(spec)
    assert again.value.reason == "runner_being_deleted"
    assert second.backend.maker.changed == {}
    anew = await second.backend.create(spec)
    assert anew.uid != made.uid
    assert second.backend.is_as_sent(spec.name, anew.uid)
    await second.stop()


async def test_a_pod_that_somebody_changes_on_its_way_gets_no_work_and_goes(cluster, journal):
    """Even if the pod claims before its creation was answered, as a swapped agent would."""
    cluster.meddle = lambda pod: pod["spec"]["initContainers"][0].update(image="evil:1")
    daemon = Daemon(cluster, replace(CONFIG, pools={POOL.name: replace(POOL, warm=0)}), journal)
    await daemon.start()
    jobs = [await daemon.offer(number) for number in range(3)]
    for record in await finished(journal, jobs):
        assert (record.outcome.result, record.outcome.reason) == (Result.ERROR, EndReason.POD_CHANGED)
        assert "spec.initContainers[0].image" in record.outcome.message
        assert "evil" not in record.outcome.message
        alarms = [fact.event for fact in await journal.facts_of(record.id) if isinstance(fact.event, e.AlarmRaised)]
        assert [alarm.alarm for alarm in alarms] == ["pod_changed"]
    assert (cluster.work, cluster.pods) == ([], {})
    assert "spec.initContainers[0].image" in daemon.backend.maker.changed[POOL.name]
    assert await broken(cluster, daemon, journal, jobs) == []
    cluster.meddle = lambda _: None
    (record,) = await finished(journal, [await daemon.offer(9)])
    assert record.outcome.result is Result.SUCCESS
    assert daemon.backend.maker.changed == {}
    await daemon.stop()


async def test_a_changed_warm_runner_is_never_given_to_a_job(cluster, journal, caplog):
    cluster.meddle = lambda pod: pod["spec"]["containers"].append({"name": "other", "image": "evil:1"})
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    await until(lambda: len(cluster.writes) >= 4)
    await until(lambda: cluster.pods == {})
    assert daemon.backend.warm.assignments.taken == 0
    assert "containers" in daemon.backend.maker.changed[POOL.name]
    made = [name for method, name in cluster.writes if method == "POST"]
    await asyncio.sleep(0.3)
    assert len([name for method, name in cluster.writes if method == "POST"]) == len(made) == POOL.warm  # it backs off
    assert "gets no warm runner" in caplog.text
    cluster.meddle = lambda _: None
    (record,) = await finished(journal, [await daemon.offer(1)])
    assert record.outcome.result is Result.SUCCESS
    await until(lambda: len(daemon.backend.warm.assignments.polls) == POOL.warm)
    await daemon.stop()


async def test_no_job_gets_a_warm_runner_before_its_creation_was_answered(cluster, journal):
    """It is in the watch, and its agent asks for work: only the answer tells whether it is what was sent."""
    answered, real = asyncio.Event(), cluster.request

    async def request(method, path, **more):
        answer = await real(method, path, **more)
        if method == "POST":
            await answered.wait()
        return answer

    cluster.request = request
    daemon = Daemon(cluster, CONFIG, journal)
    await daemon.start()
    assignments, now = daemon.backend.warm.assignments, SystemClock().now_ns() / 1e9
    await until(lambda: len(assignments.polls) == POOL.warm)
    assert assignments.ready() == {POOL.name: 0}
    assert assignments.take(RunnerName("runner-1"), POOL, now) is None
    answered.set()
    await until(lambda: assignments.ready() == {POOL.name: POOL.warm})
    assert assignments.take(RunnerName("runner-1"), POOL, now) is not None
    await daemon.stop()


async def test_warm_runners_of_an_earlier_daemon_are_compared_before_they_are_given(cluster, journal):
    first = Daemon(cluster, CONFIG, journal)
    await first.start()
    await until(lambda: len(cluster.warm()) == POOL.warm)
    await first.stop()
    _, bad = sorted(cluster.warm())
    cluster.pods[bad]["spec"]["volumes"][0] = {"name": "work", "hostPath": {"path": "/"}}
    second = Daemon(cluster, CONFIG, journal)
    await second.backend.start()
    assert second.backend.warm.assignments.take(RunnerName("runner-1"), POOL, SystemClock().now_ns() / 1e9) is None
    second.backend.warm.assignments.dropped(RunnerName("runner-1"))
    second._tasks = [asyncio.create_task(second.backend.warm.run())]
    await until(lambda: bad not in cluster.pods)
    taken = second.backend.warm.assignments.take(RunnerName("runner-2"), POOL, SystemClock().now_ns() / 1e9)
    assert taken is not None
    assert taken.name != bad
    await second.stop()


async def test_a_pool_without_its_guards_gives_no_runner_and_makes_none(cluster, journal):
    daemon = Daemon(cluster, CONFIG, journal)
    daemon.backend.guard = lambda pool: f"pool {pool.name}: network policy default-deny is missing"
    await daemon.start()
    job = JobId("memory.9.1")
    spec = RunnerSpec(runner_name(job), job, POOL.name, (), 60)
    with pytest.raises(TryAgainError) as refused:
        await daemon.backend.create(spec)
    assert (refused.value.reason, cluster.writes) == ("guard_missing", [])
    offered = await daemon.offer(1)
    await asyncio.sleep(0.1)
    waits = [fact.event for fact in await journal.facts_of(offered) if isinstance(fact.event, e.JobWaited)]
    assert [wait.reason for wait in waits] == [e.WaitReason.GUARD_MISSING]
    assert "default-deny" in waits[0].detail
    daemon.backend.guard = lambda _: ""
    daemon.backend.recheck(POOL.namespace)
    (record,) = await finished(journal, [offered], 2)
    assert record.outcome.result is Result.SUCCESS
    await daemon.stop()


async def lives(daemon: Daemon, journal: MemoryJournal) -> None:
    """Four jobs, once warm runners are ready, until all are finished."""
    await daemon.start()
    await until(lambda: polling(daemon) == 2)
    jobs = [await daemon.offer(number) for number in range(4)]
    await finished(journal, jobs)


async def story(at: int, mode: str, *, unready: bool) -> tuple[int, list[str]]:
    """Jobs through a daemon whose step `at` goes wrong, and through a healthy one after it; steps and breaches.

    `unready`: the first daemon's jobs meet no warm runner at first and have room for pods of their own.
    """
    pool = replace(POOL, capacity=6) if unready else POOL
    config = replace(CONFIG, pools={pool.name: pool})
    cluster, journal = Cluster(quota=pool.capacity), MemoryJournal(SystemClock())
    fuse = Fuse(at, mode)
    first, second = Daemon(cluster, config, journal, fuse), Daemon(cluster, config, journal)
    if unready:
        shy(first)
    try:
        with contextlib.suppress(ConnectionError):
            await first.hears(lives(first, journal))
        await first.stop()
        await second.start()
        jobs = [await second.offer(number) for number in range(4)]
        await finished(journal, jobs)
        await until(lambda: polling(second) == pool.warm)
        problems = await broken(cluster, second, journal, jobs)
        if cluster.most > pool.capacity or len(cluster.pods) != pool.warm:
            problems.append(f"pods: {list(cluster.pods)}, most {cluster.most}")
        return fuse.steps, problems
    finally:
        await second.stop()
        await cluster.close()


@pytest.mark.slow
@pytest.mark.parametrize("unready", [False, True], ids=["ready", "unready"])
@pytest.mark.parametrize("mode", ["kill", "before", "after"])
async def test_no_step_that_goes_wrong_gives_a_runner_to_two_jobs_or_loses_one(mode, unready):
    steps, problems = await story(0, mode, unready=unready)
    assert steps > 10
    assert problems == []
    for at in range(1, steps + 1):
        _, problems = await story(at, mode, unready=unready)
        assert problems == [], f"step {at} of {steps}"
