from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.journal import groups, schema
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.record import fold
from orchestrator.model.runner import RunnerName

DONE = Outcome(Result.SUCCESS, EndReason.COMPLETED, "completed", 0)
V1 = Path(__file__).with_name("journal_v1.sql")


class Clock:
    def now_ns(self) -> int:
        return 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteJournal]:
    journal = await SqliteJournal.open(path, Clock())
    try:
        yield journal
    finally:
        await journal.close()


def offered(name: str) -> tuple[JobId, events.Event]:
    offer = JobOffer(JobKey("dispatch", name), JobSpec(name, PoolName("p"), "true"), Caller("i", "s"))
    return offer.key.id, events.JobOffered(offer)


def ended(job_id: JobId) -> list[tuple[JobId, events.Event]]:
    return [(job_id, events.JobEnded(DONE)), (job_id, events.JobFinished())]


async def test_reopening_finds_everything_and_begins_a_new_epoch(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    a, b = offered("a"), offered("b")
    async with opened(path) as journal:
        stored = list(await journal.append([a, b]))
        await journal.append([(b[0], events.JobEnded(DONE))])
        await journal.append(ended(a[0]))
        assert journal.epoch == 1
    async with opened(path) as journal:
        assert journal.epoch == 2
        assert (await journal.facts_of(a[0]))[0] == stored[0]
        [live] = await journal.live()
        assert fold(live).phase is Phase.TEARDOWN
        phases = {line.job_id: (line.phase, line.result) for line in await journal.jobs(JobQuery())}
        assert phases == {a[0]: (Phase.FINISHED, "success"), b[0]: (Phase.TEARDOWN, "success")}
        [fact] = await journal.append([(b[0], events.JobFinished())])
        assert fact.seq == 6
        assert list(await journal.pending_traces(9)) == [a[0], b[0]]
    with closing(sqlite3.connect(path)) as bare:
        assert bare.execute("SELECT epoch, count(*) FROM facts GROUP BY epoch").fetchall() == [(1, 5), (2, 1)]


async def test_files_are_the_daemons_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        await journal.append([offered("a")])
        modes = {entry.name: oct(entry.stat().st_mode & 0o777) for entry in tmp_path.iterdir()}
    assert set(modes) == {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"}
    assert set(modes.values()) == {"0o600"}


async def test_a_second_owner_is_refused_by_pid(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path):
        with pytest.raises(ConfigurationError) as refused:
            await SqliteJournal.open(path, Clock())
        assert refused.value.reason == "journal_in_use"
        assert f"pid {os.getpid()}" in str(refused.value)
    async with opened(path):
        pass


async def test_a_refused_start_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            await SqliteJournal.open(path, Clock())
        assert refused.value.reason == "journal_corrupt"


async def test_a_journal_taken_over_behind_its_lock_stores_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as journal:
        await journal.append([offered("a")])
        (tmp_path / "journal.db.lock").unlink()
        async with opened(path) as usurper:
            for facts in ([offered("b")], [(offered("a")[0], events.JobCancelRequested("me"))]):
                with pytest.raises(TryAgainError, match="taken"):
                    await journal.append(facts)
            assert not journal.healthy
            assert len(await usurper.facts_of(offered("a")[0])) == 1
            await usurper.append([offered("c")])
            assert [line.name for line in await usurper.jobs(JobQuery())] == ["c", "a"]


async def test_waiting_appends_become_one_commit_and_an_idle_journal_does_not_wait(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        commits: list[int] = []
        journal.subscribe(lambda facts: commits.append(len(facts)))
        gate = threading.Event()
        holding = asyncio.ensure_future(journal._do(lambda store: gate.wait(10)))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(journal.append([offered(f"n{n}")])) for n in range(50)]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(holding, *waiting)
        assert commits in ([50], [49, 1], [1, 49])
        await journal.append([offered("alone")])
        assert commits[-1] == 1


async def test_facts_alone_are_stored_as_those_that_change_the_list(tmp_path: Path) -> None:
    """A few facts of unfinished jobs go into one statement, more and others into a transaction of several."""
    path, job_id = tmp_path / "journal.db", offered("a")[0]
    async with opened(path) as journal:
        stored = [*await journal.append([offered("a")])]
        for size in range(1, 12):
            notes = [(job_id, events.LogClosed(size, place, 0)) for place in range(size)]
            stored += await journal.append(notes)
        with pytest.raises(GiveUpError):
            await journal.append([(job_id, events.LogClosed(0, 0, 0)), (offered("b")[0], events.JobFinished())])
        stored += await journal.append([(job_id, events.JobFinished())])
        assert [fact.seq for fact in stored] == list(range(1, 69))
        assert await journal.facts_of(job_id) == stored
    async with opened(path) as again:
        assert await again.facts_of(job_id) == stored
        assert await again.append([offered("b"), (offered("b")[0], events.LogClosed(1, 1, 1))])


async def test_reads_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        await journal.append([offered("a")])
        gate = threading.Event()

        def hold(store: object) -> None:
            store._connection.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]
            gate.wait(10)
            store._connection.execute("COMMIT")  # type: ignore[attr-defined]

        holding = asyncio.ensure_future(journal._do(hold))
        await asyncio.sleep(0.01)
        assert len(await journal.facts_of(offered("a")[0])) == 1
        assert len(await journal.jobs(JobQuery())) == 1
        assert not holding.done()
        gate.set()
        await holding


async def test_close_stores_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = await SqliteJournal.open(path, Clock())
    waiting = [asyncio.ensure_future(journal.append([offered(f"n{n}")])) for n in range(20)]
    await asyncio.sleep(0)
    await journal.close()
    assert all(len(task.result()) == 1 for task in waiting)
    assert not (tmp_path / "journal.db-wal").exists(), "a clean end leaves one file to copy"
    async with opened(path) as again:
        assert len(await again.jobs(JobQuery())) == 20


async def test_a_cancelled_append_harms_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        lost = asyncio.ensure_future(journal.append([offered("lost")]))
        kept = asyncio.ensure_future(journal.append([offered("kept")]))
        await asyncio.sleep(0)
        lost.cancel()
        assert len(await kept) == 1
        assert {line.name for line in await journal.jobs(JobQuery())} == {"lost", "kept"}


async def test_a_failing_feed_fails_no_append(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        seen: list[events.Fact] = []

        def broken(facts: object) -> None:
            raise RuntimeError("broken feed")

        journal.subscribe(broken)
        journal.subscribe(seen.extend)
        assert len(await journal.append([offered("a")])) == 1
        assert len(seen) == 1


async def test_the_index_is_rebuilt_from_the_facts_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "journal.db") as journal:
        for name in "abcd":
            await journal.append([offered(name)])
        for name in "bc":
            await journal.append(ended(offered(name)[0]))
        await journal.trace_exported([offered("b")[0]])
        await journal.append([(offered("d")[0], events.JobCancelRequested("operator"))])
        await journal.compact(10_000, 1_000, 10**9)
        before = await journal.jobs(JobQuery())
        table = "SELECT * FROM jobs ORDER BY job"
        rows = await journal._do(lambda store: store.execute(table))
        await journal._do(lambda store: store.execute("DELETE FROM jobs"))
        assert await journal.reindex() == 4
        assert await journal._do(lambda store: store.execute(table)) == rows
        assert await journal.jobs(JobQuery()) == before


def make_v1(path: Path) -> None:
    with closing(sqlite3.connect(path)) as bare:
        bare.executescript(V1.read_text())
        bare.execute("PRAGMA journal_mode = WAL")


async def test_a_journal_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make_v1(path)
    async with opened(path) as journal:
        assert journal.epoch == 4
        assert [line.name for line in await journal.jobs(JobQuery())] == ["running", "done"]
        [live] = await journal.live()
        assert fold(live).offer.spec.name == "running"
        assert list(await journal.pending_traces(9)) == [JobId("dispatch.old1.1")]
        [fact] = await journal.append([(live[0].job_id, events.JobCancelRequested("operator"))])
        assert fact.seq == 6
    with closing(sqlite3.connect(path)) as bare, closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        schema.migrate(fresh)
        shape = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        assert bare.execute(shape).fetchall() == fresh.execute(shape).fetchall()


async def test_a_failing_step_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    make_v1(path)

    def breaks(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise sqlite3.OperationalError("disk full")

    with closing(sqlite3.connect(path, isolation_level=None)) as bare:
        before = bare.execute("SELECT sql FROM sqlite_schema").fetchall()
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(bare, [*schema.STEPS, breaks])
        assert bare.execute("SELECT sql FROM sqlite_schema").fetchall() == before
        assert schema.version(bare) == 1
        assert schema.migrate(bare, [*schema.STEPS, lambda _: None]) == 1
        assert schema.version(bare) == len(schema.STEPS) + 1


async def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as journal:
        await journal.append([offered("a")])
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("UPDATE meta SET value = 99 WHERE key = 'version'")
        bare.commit()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as refused:
        await SqliteJournal.open(path, Clock())
    assert refused.value.reason == "journal_newer"
    assert "99" in str(refused.value)
    assert "start the version that wrote this journal again" in str(refused.value.fix)
    assert "orchestrator manifests --restore NAME" in str(refused.value.fix)
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("CREATE TABLE theirs (x)")
    with pytest.raises(ConfigurationError) as refused:
        await SqliteJournal.open(path, Clock())
    assert refused.value.reason == "journal_foreign"


async def test_a_log_without_its_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "journal.db-wal").write_bytes(b"left over")
    with pytest.raises(ConfigurationError) as refused:
        await SqliteJournal.open(tmp_path / "journal.db", Clock())
    assert refused.value.reason == "journal_corrupt"
    assert not (tmp_path / "journal.db").exists()


async def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await SqliteJournal.open(tmp_path / "nowhere" / "journal.db", Clock())
    assert refused.value.reason == "journal_unwritable"


async def test_a_damaged_job_keeps_no_other_from_being_compacted(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as journal:
        for name in "ab":
            await journal.append([offered(name)])
            await journal.append(ended(offered(name)[0]))
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("UPDATE facts SET crc = 1 WHERE job_id = 'dispatch.a.1'")
        bare.commit()
    async with opened(path) as journal:
        done = await journal.compact(10_000, 1_000, 10**9, exporting=False)
        assert (done.compacted, done.forgotten) == (1, 0)
        assert [type(fact.event) for fact in await journal.facts_of(offered("b")[0])] == [events.JobCompacted]
        assert (await journal.compact(10**9 + 10_000, 1_000, 10**9, exporting=False)).forgotten == 2


async def test_a_flipped_letter_inside_a_fact_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with opened(path) as journal:
        await journal.append([offered("a")])
        await journal.append(ended(offered("a")[0]))
        await journal.append([offered("b")])
    with closing(sqlite3.connect(path)) as bare:
        bare.execute(
            "UPDATE facts SET data = CAST(replace(data, 'success', 'timeout') AS BLOB) WHERE kind = 'JobEnded'"
        )
        bare.commit()
    async with opened(path) as journal:
        assert len(await journal.live()) == 1
        with pytest.raises(GiveUpError) as refused:
            await journal.facts_of(offered("a")[0])
        assert refused.value.reason == "journal_corrupt"
    with closing(sqlite3.connect(path)) as bare:
        bare.execute("UPDATE facts SET data = x'7bff7d' WHERE job_id = 'dispatch.b.1'")
        bare.commit()
    with pytest.raises(GiveUpError) as refused:
        await SqliteJournal.open(path, Clock())
    assert refused.value.reason == "journal_corrupt"


async def test_a_runner_to_be_made_waits_for_no_other_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "GATHER_SECONDS", 30.0)
    monkeypatch.setattr(groups, "_RUSH_SECONDS", 1e9)
    async with opened(tmp_path / "journal.db") as journal:
        a = offered("a")
        await journal.append([a])
        journal._queue._several = True
        async with asyncio.timeout(10):
            await journal.append([(a[0], events.ProvisionStarted(RunnerName("runner-a"), "digest"))])
