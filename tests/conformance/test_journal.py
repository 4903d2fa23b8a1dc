"""What every journal promises, held against the one in memory, the one on disk, and both behind an audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.journal.audited import AuditedJournal
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.platform import PlatformJob
from orchestrator.model.record import fold
from orchestrator.model.runner import runner_name
from orchestrator.testing.clock import SteppedClock as Timers
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.trail import MemoryTrail

Journal = MemoryJournal | SqliteJournal | AuditedJournal[events.Fact]
ALLOWED = Decision("1", Stage.ADMISSION, Verdict.ALLOW)
DENIED = Decision("2", Stage.EXCHANGE, Verdict.DENY)
DONE = Outcome(Result.SUCCESS, EndReason.COMPLETED, "completed", 0)


class SteppedClock:
    def __init__(self) -> None:
        self.ns = 1_000

    def now_ns(self) -> int:
        return self.ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture(params=["memory", "sqlite"])
async def stored(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SteppedClock
) -> AsyncIterator[MemoryJournal | SqliteJournal]:
    made: MemoryJournal | SqliteJournal
    made = MemoryJournal(clock) if request.param == "memory" else await SqliteJournal.open(tmp_path / "j.db", clock)
    yield made
    await made.close()


@pytest.fixture(params=["bare", "audited"])
def journal(request: pytest.FixtureRequest, stored: MemoryJournal | SqliteJournal) -> Journal:
    return stored if request.param == "bare" else AuditedJournal(stored, MemoryTrail(), Timers())


def offer(platform_id: str, pool: str = "default", pipeline: str = "", subject: str = "s") -> JobOffer:
    return JobOffer(
        JobKey("dispatch", platform_id),
        JobSpec(f"job {platform_id}", PoolName(pool), "true", pipeline=pipeline),
        Caller("https://issuer.test", subject, {"ref": "main"}),
        fingerprint=f"print-{platform_id}",
    )


def offered(made: JobOffer) -> tuple[JobId, events.Event]:
    return made.key.id, events.JobOffered(made)


def ended(job_id: JobId) -> list[tuple[JobId, events.Event]]:
    return [(job_id, events.JobEnded(DONE)), (job_id, events.JobFinished())]


async def test_facts_come_back_in_order_with_rising_seq(journal: Journal) -> None:
    first, second = offer("a"), offer("b")
    stored = list(await journal.append([offered(first), offered(second)]))
    stored += await journal.append([(first.key.id, events.JobWaited(events.WaitReason.POOL_FULL, "2 of 2"))])
    assert [fact.seq for fact in stored] == sorted({fact.seq for fact in stored})
    assert stored[0].seq > 0
    assert list(await journal.facts_of(first.key.id)) == [stored[0], stored[2]]
    assert list(await journal.facts_of(second.key.id)) == [stored[1]]
    assert list(await journal.facts_of(JobId("dispatch.never.1"))) == []


async def test_nothing_to_append_is_nothing(journal: Journal) -> None:
    assert list(await journal.append([])) == []


async def test_time_never_runs_backwards_within_a_job(journal: Journal, clock: SteppedClock) -> None:
    job = offer("a")
    await journal.append([offered(job)])
    clock.ns = 900
    other = offer("b")
    [back] = await journal.append([(job.key.id, events.JobWaited(events.WaitReason.POOL_FULL))])
    [free] = await journal.append([offered(other)])
    assert back.at_ns == 1_000
    assert free.at_ns == 900
    clock.ns = 2_000
    await journal.append(ended(job.key.id))
    clock.ns = 100
    [late] = await journal.append([(job.key.id, events.LogClosed(1, 0, 0))])
    assert late.at_ns == 2_000


async def test_live_are_the_jobs_without_a_finish_and_fold(journal: Journal) -> None:
    jobs = [offer(name) for name in "abc"]
    await journal.append([offered(job) for job in jobs])
    await journal.append(ended(jobs[1].key.id))
    await journal.append([(jobs[2].key.id, events.JobEnded(DONE))])
    live = [list(facts) for facts in await journal.live()]
    assert {facts[0].job_id for facts in live} == {jobs[0].key.id, jobs[2].key.id}
    assert {fold(facts).phase for facts in live} == {Phase.QUEUED, Phase.TEARDOWN}


async def test_a_fact_needs_its_jobs_offer_and_the_append_is_whole_or_nothing(journal: Journal) -> None:
    job = offer("a")
    with pytest.raises(GiveUpError) as refused:
        await journal.append([offered(job), (JobId("dispatch.b.1"), events.JobFinished())])
    assert refused.value.reason == "job_unknown"
    assert list(await journal.facts_of(job.key.id)) == []
    assert list(await journal.jobs(JobQuery())) == []
    assert list(await journal.live()) == []
    await journal.append([offered(job), (job.key.id, events.JobCancelRequested("operator"))])
    assert len(await journal.facts_of(job.key.id)) == 2


async def test_a_job_is_offered_once_and_the_append_is_whole_or_nothing(journal: Journal) -> None:
    open_, done, new = offer("a"), offer("b"), offer("c")
    await journal.append([offered(open_), offered(done)])
    await journal.append(ended(done.key.id))
    for facts in ([offered(open_)], [offered(new), offered(done)], [offered(new), offered(new)]):
        with pytest.raises(GiveUpError) as refused:
            await journal.append(facts)
        assert refused.value.reason == "job_known"
    at_once = await asyncio.gather(*(journal.append([offered(new)]) for _ in range(3)), return_exceptions=True)
    assert [isinstance(one, GiveUpError) for one in at_once] == [False, True, True]
    for job, count in ((open_, 1), (done, 3), (new, 1)):
        assert len(await journal.facts_of(job.key.id)) == count


@pytest.mark.parametrize("name", ["dispatch.é.1", "dispatch.\ud800.1", "", "'; --"])
async def test_strange_job_ids_are_just_unknown(journal: Journal, name: str) -> None:
    with pytest.raises(GiveUpError) as refused:
        await journal.append([(JobId(name), events.JobFinished())])
    assert refused.value.reason == "job_unknown"
    assert len(await journal.append([offered(offer("a"))])) == 1
    assert list(await journal.facts_of(JobId(name))) == []
    assert list(await journal.jobs(JobQuery(pool=name or "other"))) == []
    assert len(await journal.jobs(JobQuery(after=name))) == (0 if name else 1)


async def test_appends_of_many_tasks_at_once_all_stand(journal: Journal) -> None:
    jobs = [offer(f"n{number}") for number in range(60)]

    async def life(job: JobOffer) -> None:
        await journal.append([offered(job)])
        for number in range(4):
            await journal.append([(job.key.id, events.ExchangeDecided(str(number), decision=DENIED))])
        await journal.append(ended(job.key.id))

    await asyncio.gather(*(life(job) for job in jobs))
    everything = []
    for job in jobs:
        facts = await journal.facts_of(job.key.id)
        audiences = [fact.event.audience for fact in facts if isinstance(fact.event, events.ExchangeDecided)]
        assert audiences == ["0", "1", "2", "3"]
        assert len(facts) == 7
        everything += [fact.seq for fact in facts]
    assert len(set(everything)) == len(everything) == 420
    assert not await journal.live()


async def test_summaries_follow_the_facts(journal: Journal, clock: SteppedClock) -> None:
    job = offer("a", pool="big", pipeline="p", subject="someone")
    runner = runner_name(job.key.id)

    async def line() -> tuple[str, str, str, int]:
        [shown] = await journal.jobs(JobQuery())
        return shown.phase.value, shown.result, shown.reason, shown.finished_at_ns

    await journal.append([offered(job)])
    [shown] = await journal.jobs(JobQuery())
    assert (shown.job_id, shown.name, shown.pool, shown.pipeline) == (job.key.id, "job a", "big", "p")
    assert (shown.caller_id, shown.offered_at_ns) == (job.caller.id, 1_000)
    steps: list[tuple[events.Event, str]] = [
        (events.JobAdmitted(ALLOWED), "waiting"),
        (events.ProvisionStarted(runner, "d"), "provisioning"),
        (events.RunnerBound(runner, "u", EgressProof(("dns",))), "running"),
        (events.RunnerCreated(runner, "u"), "running"),
    ]
    for event, phase in steps:
        await journal.append([(job.key.id, event)])
        assert await line() == (phase, "", "", 0)
    await journal.append([(job.key.id, events.JobEnded(DONE))])
    assert await line() == ("teardown", "success", "completed", 0)
    clock.ns = 5_000
    await journal.append([(job.key.id, events.JobFinished())])
    assert await line() == ("finished", "success", "completed", 5_000)


async def test_lists_are_newest_first_filtered_and_paged(journal: Journal) -> None:
    jobs = [offer(f"n{n}", pool="ab"[n % 2], pipeline=f"p{n % 3}", subject=f"s{n % 2}") for n in range(12)]
    for job in jobs:
        await journal.append([offered(job)])
    for job in jobs[:4]:
        await journal.append(ended(job.key.id))
    await journal.append([(jobs[5].key.id, events.JobEnded(DONE))])

    async def names(**query: object) -> list[str]:
        return [line.name.removeprefix("job n") for line in await journal.jobs(JobQuery(**query))]  # type: ignore[arg-type]

    newest = [str(n) for n in range(11, -1, -1)]
    assert await names() == newest
    pages: list[str] = []
    after = ""
    while page := await journal.jobs(JobQuery(limit=5, after=after)):
        pages += [line.name.removeprefix("job n") for line in page]
        after = page[-1].job_id
    assert pages == newest
    assert await names(pool="a") == ["10", "8", "6", "4", "2", "0"]
    assert await names(pipeline="p1", limit=2) == ["10", "7"]
    assert await names(pipeline="p1", limit=2, after=jobs[7].key.id) == ["4", "1"]
    assert await names(caller_id=jobs[0].caller.id, phase="finished") == ["2", "0"]
    assert await names(phase="finished") == ["3", "2", "1", "0"]
    assert await names(phase="teardown") == ["5"]
    assert await names(result="success") == ["5", "3", "2", "1", "0"]
    assert await names(result="success", phase="finished", limit=1) == ["3"]
    assert await names(phase="queued", limit=3) == ["11", "10", "9"]
    assert await names(phase="nonsense") == []
    assert await names(after="dispatch.never.1") == []
    assert len(await names(limit=0)) == 1


async def test_feeds_get_each_fact_once_and_before_the_append_returns(journal: Journal) -> None:
    seen: list[events.Fact] = []
    unsubscribe = journal.subscribe(seen.extend)
    job = offer("a")
    stored = list(await journal.append([offered(job)]))
    assert seen == stored
    stored += await journal.append(ended(job.key.id))
    assert seen == stored
    unsubscribe()
    unsubscribe()
    await journal.append([(job.key.id, events.LogClosed(0, 0, 0))])
    assert seen == stored


async def test_the_outbox_holds_finished_jobs_until_exported(journal: Journal) -> None:
    jobs = [offer(name) for name in "abc"]
    await journal.append([offered(job) for job in jobs])
    await journal.append([*ended(jobs[0].key.id), *ended(jobs[2].key.id)])
    assert list(await journal.pending_traces(10)) == [jobs[0].key.id, jobs[2].key.id]
    assert list(await journal.pending_traces(1)) == [jobs[0].key.id]
    await journal.trace_exported([jobs[0].key.id, JobId("dispatch.never.1")])
    await journal.trace_exported([])
    assert list(await journal.pending_traces(10)) == [jobs[2].key.id]
    await journal.append([(jobs[0].key.id, events.LogClosed(0, 0, 0)), (jobs[0].key.id, events.JobFinished())])
    assert list(await journal.pending_traces(10)) == [jobs[2].key.id]


async def test_age_shrinks_then_forgets_finished_jobs_only(journal: Journal, clock: SteppedClock) -> None:
    old, pending, running, young = (offer(name, pipeline="p") for name in ("old", "pending", "running", "young"))
    await journal.append([offered(job) for job in (old, pending, running, young)])
    await journal.append([*ended(old.key.id), *ended(pending.key.id)])
    await journal.trace_exported([old.key.id])
    clock.ns = 50_000
    await journal.append(ended(young.key.id))
    before = {job.key.id: list(await journal.facts_of(job.key.id)) for job in (pending, running, young)}

    done = await journal.compact(60_000, 20_000, 90_000)
    assert (done.compacted, done.forgotten, done.traces_dropped) == (1, 0, 0)
    [fact] = await journal.facts_of(old.key.id)
    assert fact.event == events.JobCompacted("job old", "default", DONE, 1_000, 1_000, "print-old", "p", old.caller.id)
    assert fact.at_ns == 60_000
    assert {job_id: list(await journal.facts_of(job_id)) for job_id in before} == before
    assert [line.name for line in await journal.jobs(JobQuery())] == [
        "job young",
        "job running",
        "job pending",
        "job old",
    ]

    again = await journal.compact(60_000, 20_000, 90_000, exporting=False)
    assert (again.compacted, again.forgotten) == (1, 0), "nobody exports, so nothing is waited for"
    assert list(await journal.pending_traces(9)) == [young.key.id]

    last = await journal.compact(200_000, 20_000, 90_000)
    assert (last.compacted, last.forgotten, last.traces_dropped) == (0, 3, 1)
    assert [line.name for line in await journal.jobs(JobQuery())] == ["job running"]
    assert list(await journal.facts_of(old.key.id)) == []
    assert list(await journal.pending_traces(9)) == []
    [stored] = await journal.append([offered(old)])
    assert stored.seq > fact.seq, "a number is never given twice"


async def test_forgetting_never_comes_before_retention(journal: Journal, clock: SteppedClock) -> None:
    job = offer("a")
    await journal.append([offered(job), *ended(job.key.id)])
    done = await journal.compact(10_000, retention_ns=20_000, forget_ns=1)
    assert (done.compacted, done.forgotten) == (0, 0)


async def test_a_closed_journal_refuses(journal: Journal) -> None:
    await journal.append([offered(offer("a"))])
    assert journal.healthy
    await journal.close()
    await journal.close()
    assert not journal.healthy
    with pytest.raises(TryAgainError) as refused:
        await journal.append([offered(offer("b"))])
    assert refused.value.reason == "journal_unavailable"


async def test_a_cancelled_append_is_decided_before_its_caller_goes_on(journal: Journal) -> None:
    """What is read next shows what was stored, for ever: nothing of it lands later."""
    for number in range(20):
        made = offer(f"cut-{number}")
        call = asyncio.ensure_future(journal.append([offered(made)]))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait({call})
        seen = list(await journal.facts_of(made.key.id))
        await journal.append([offered(offer(f"after-{number}"))])
        assert list(await journal.facts_of(made.key.id)) == seen
        if not call.cancelled():
            assert list(call.result()) == seen


async def test_a_caller_cancelled_while_the_journal_closes_is_let_go(journal: Journal) -> None:
    call = asyncio.ensure_future(journal.append([offered(offer("last"))]))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(journal.close())
    await asyncio.sleep(0)
    call.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({call, closing})


def demanded(platform_id: str) -> JobOffer:
    made = offer(platform_id)
    return JobOffer(made.key, replace(made.spec, awaits_platform_job=True), made.caller, made.fingerprint)


def named(job: JobOffer, key: str, name: str = "unit tests") -> tuple[JobId, events.Event]:
    caller = Caller("https://platform.test", f"run:{key}", {"ref": "main"})
    return job.key.id, events.PlatformJobNamed(PlatformJob(key, name, caller, pipeline="ci.yml"), ALLOWED)


async def test_the_job_that_a_platform_named_is_found_by_its_key(journal: Journal) -> None:
    first, second, third = (demanded(name) for name in "abc")
    assert await journal.job_named("1/1") is None
    await journal.append([offered(first), offered(second)])
    assert await journal.job_named("") is None
    await journal.append([named(first, "1/1")])
    await journal.append([offered(third), named(third, "ключ"), (third.key.id, events.SpansRelayed(1, 0))])
    await journal.append([named(second, "1/2")])
    assert await journal.job_named("1/1") == first.key.id
    assert await journal.job_named("1/2") == second.key.id
    assert await journal.job_named("ключ") == third.key.id
    for nobody in ("1/", "1/11", "1/1\0", "\ud800"):
        assert await journal.job_named(nobody) is None


async def test_the_first_holder_of_a_key_is_the_one_that_is_found(journal: Journal) -> None:
    first, second = demanded("a"), demanded("b")
    await journal.append([offered(first), offered(second)])
    await journal.append([named(second, "1")])
    await journal.append([named(first, "1")])
    assert await journal.job_named("1") == second.key.id


async def test_lists_show_a_named_job_by_its_name(journal: Journal) -> None:
    job, other = demanded("a"), demanded("b")
    await journal.append([offered(job), offered(other)])
    fact = named(job, "1")
    assert isinstance(fact[1], events.PlatformJobNamed)
    caller_id = fact[1].job.caller.id
    for finish in ([], ended(job.key.id)):
        await journal.append(finish or [fact])
        for query in (JobQuery(pipeline="ci.yml"), JobQuery(caller_id=caller_id)):
            [line] = await journal.jobs(query)
            assert (line.job_id, line.name, line.caller_id) == (job.key.id, "unit tests", caller_id)
        assert [line.job_id for line in await journal.jobs(JobQuery(caller_id=job.caller.id))] == [other.key.id]


async def test_a_key_is_known_as_long_as_anything_of_its_job_is(journal: Journal, clock: SteppedClock) -> None:
    job = demanded("a")
    await journal.append([offered(job), named(job, "1"), *ended(job.key.id)])
    await journal.compact(clock.ns + 100, 10, 1_000, exporting=False)
    [fact] = await journal.facts_of(job.key.id)
    assert isinstance(fact.event, events.JobCompacted)
    assert (fact.event.platform_key, fact.event.name, fact.event.pipeline) == ("1", "unit tests", "ci.yml")
    assert fold([fact]).platform_key == "1"
    assert await journal.job_named("1") == job.key.id
    if isinstance(journal, SqliteJournal):
        await journal.reindex()
        assert await journal.job_named("1") == job.key.id
    await journal.compact(clock.ns + 2_000, 10, 1_000, exporting=False)
    assert await journal.job_named("1") is None


async def test_facts_of_all_jobs_are_read_on_from_any_number(stored: MemoryJournal | SqliteJournal) -> None:
    assert stored.last_seq == 0
    first, second = offer("a"), offer("b")
    facts = list(await stored.append([offered(first), offered(second)]))
    facts += await stored.append([(first.key.id, events.JobWaited(events.WaitReason.POOL_FULL)), *ended(second.key.id)])
    assert list(await stored.facts_after(0, 100)) == facts
    assert list(await stored.facts_after(facts[1].seq, 2)) == facts[2:4]
    assert list(await stored.facts_after(facts[-1].seq, 100)) == []
    assert stored.last_seq == facts[-1].seq


async def test_facts_of_some_kinds_are_read_back_newest_first(stored: MemoryJournal | SqliteJournal) -> None:
    nothing = await stored.facts_before(1 << 62, {events.JobWaited}, 10)
    assert (list(nothing.facts), nothing.floor) == ([], 1)
    first, second = offer("a"), offer("b")
    await stored.append([offered(first), offered(second)])
    waits = [events.JobWaited(events.WaitReason.POOL_FULL, str(n)) for n in range(5)]
    facts = list(await stored.append([(first.key.id, wait) for wait in waits]))
    await stored.append(ended(second.key.id))
    kinds = {events.JobWaited}
    newest = await stored.facts_before(1 << 62, kinds, 2)
    assert (list(newest.facts), newest.floor) == ([facts[4], facts[3]], facts[3].seq)
    assert newest.names == {first.key.id: first.spec.name}
    rest = await stored.facts_before(newest.floor, kinds, 10)
    assert (list(rest.facts), rest.floor) == ([facts[2], facts[1], facts[0]], 1)
    both = await stored.facts_before(facts[1].seq, {events.JobWaited, events.JobOffered}, 10)
    assert [type(fact.event) for fact in both.facts] == [events.JobWaited, events.JobOffered, events.JobOffered]
    assert list((await stored.facts_before(1, kinds, 10)).facts) == []


async def test_numbers_go_on_where_they_are_told_to(stored: MemoryJournal | SqliteJournal) -> None:
    [before] = await stored.append([offered(offer("a"))])
    await stored.continue_after(before.seq + 1000)
    await stored.continue_after(before.seq)
    [after] = await stored.append([offered(offer("b"))])
    assert after.seq == before.seq + 1001
