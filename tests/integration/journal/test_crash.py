"""What an append acknowledged survives SIGKILL at any moment; nothing is ever half there."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.job import JobKey
from orchestrator.model.record import fold

APPENDER = Path(__file__).with_name("appender.py")
KILLS = 10


class Clock:
    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def start(path: Path, rounds: int = 100_000, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(APPENDER), str(path), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | environment)


def killed_after(path: Path, lines: int, more_seconds: float) -> dict[str, int]:
    """Kill the appender `more_seconds` after its n-th acknowledgement; what it had acknowledged by then."""
    process = start(path)
    assert process.stdout is not None
    try:
        heard = [process.stdout.readline() for _ in range(lines)]
        time.sleep(more_seconds)
        process.send_signal(signal.SIGKILL)
        heard += process.stdout.readlines()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    acknowledged: dict[str, int] = {}
    for line in heard:
        name, _, count = line.decode().strip().partition(" ")
        if line.endswith(b"\n") and name != "epoch":
            acknowledged[name] = int(count)
    return acknowledged


async def check(journal: SqliteJournal, acknowledged: dict[str, int]) -> int:
    """Every acknowledged fact is there, in whole appends, and the index agrees; returns the number of jobs."""
    for name, count in acknowledged.items():
        facts = await journal.facts_of(JobKey("dispatch", name).id)
        if len(facts) == 1 and isinstance(facts[0].event, events.JobCompacted):
            assert count in {6, 9}, "only a finished job is compacted; its last acknowledgement may have been lost"
            continue
        assert len(facts) >= count, f"{name} lost acknowledged facts"
        assert len(facts) % 3 == 0, f"{name} has a torn append"
        assert [fact.seq for fact in facts] == sorted({fact.seq for fact in facts})
        assert [fact.at_ns for fact in facts] == sorted(fact.at_ns for fact in facts)
        fold(facts)
    live = {facts[0].job_id for facts in await journal.live()}
    listed = 0
    after = ""
    while page := await journal.jobs(JobQuery(limit=500, after=after)):
        for line in page:
            assert (line.job_id in live) == (line.finished_at_ns == 0)
        listed, after = listed + len(page), page[-1].job_id
    before = await journal._do(lambda store: store.execute("SELECT * FROM jobs"))
    assert await journal.reindex() == listed
    after_rows = await journal._do(lambda store: store.execute("SELECT * FROM jobs"))
    # A rebuilt line of an unfinished job knows its phase; the table learns it when the job finishes.
    assert [row[:6] + row[7:9] + row[11:] for row in after_rows] == [row[:6] + row[7:9] + row[11:] for row in before]
    return listed


def test_sigkill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    dice = random.Random(20)
    acknowledged: dict[str, int] = {}
    for _ in range(KILLS):
        acknowledged |= killed_after(path, dice.randrange(1, 60), dice.uniform(0, 0.02))

    async def verify() -> None:
        journal = await SqliteJournal.open(path, Clock())
        try:
            assert journal.epoch == KILLS + 1, "each start, however short, was an epoch"
            assert await check(journal, acknowledged) >= len(acknowledged) > KILLS
        finally:
            await journal.close()

    asyncio.run(verify())


def test_the_lock_dies_with_its_holder_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    process = start(path)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"epoch 1\n"
        with pytest.raises(ConfigurationError, match=f"pid {process.pid}"):
            asyncio.run(SqliteJournal.open(path, Clock()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

    async def reopen() -> None:
        journal = await SqliteJournal.open(path, Clock())
        await journal.close()

    asyncio.run(reopen())


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A journal with a write-ahead log left over, as after a kill."""
    path = tmp_path_factory.mktemp("crashed") / "journal.db"
    acknowledged = killed_after(path, 200, 0.01)
    assert path.with_name("journal.db-wal").stat().st_size > 0
    return path, acknowledged


def copied(crashed: Path, target: Path) -> Path:
    for suffix in ("", "-wal"):
        shutil.copy(crashed.with_name(crashed.name + suffix), target / (crashed.name + suffix))
    return target / crashed.name


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_log_gives_whole_appends(crashed: tuple[Path, dict[str, int]], tmp_path: Path, part: float) -> None:
    path = copied(crashed[0], tmp_path)
    wal = path.with_name("journal.db-wal")
    os.truncate(wal, int(wal.stat().st_size * part))

    async def verify() -> None:
        journal = await SqliteJournal.open(path, Clock())
        try:
            names = [line.name for line in await journal.jobs(JobQuery(limit=500))]
            there = {name: len(await journal.facts_of(JobKey("dispatch", name).id)) for name in names}
            await check(journal, {name: count for name, count in there.items() if count > 1})
            assert bool(names) == (part > 0)
        finally:
            await journal.close()

    asyncio.run(verify())


def test_flipped_bytes_in_the_log_give_whole_appends(crashed: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    dice = random.Random(7)
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = copied(crashed[0], folder)
        flip(path.with_name("journal.db-wal"), dice)

        async def verify(path: Path = path) -> None:
            journal = await SqliteJournal.open(path, Clock())
            try:
                names = [line.name for line in await journal.jobs(JobQuery(limit=500))]
                there = {name: len(await journal.facts_of(JobKey("dispatch", name).id)) for name in names}
                await check(journal, {name: count for name, count in there.items() if count > 1})
            finally:
                await journal.close()

        asyncio.run(verify())


def flip(file: Path, dice: random.Random, start: int = 0, end: int | None = None, count: int = 8) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(count):
        data[dice.randrange(start, end or len(data))] ^= 1 << dice.randrange(8)
    file.write_bytes(data)


@pytest.mark.parametrize(("start", "end"), [(0, 16), (16, 28), (100, 108)])
def test_a_damaged_head_is_refused_and_nothing_is_touched(
    crashed: tuple[Path, dict[str, int]], tmp_path: Path, start: int, end: int
) -> None:
    path = copied(crashed[0], tmp_path)
    path.with_name("journal.db-wal").unlink()
    path.write_bytes(bytes(0xA5 if start <= at < end else byte for at, byte in enumerate(path.read_bytes())))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as refused:
        asyncio.run(SqliteJournal.open(path, Clock()))
    assert refused.value.reason in {"journal_corrupt", "journal_foreign"}
    assert "backup" in refused.value.fix or "state folder" in refused.value.fix
    assert path.read_bytes() == before


async def test_a_damaged_page_in_the_middle_is_refused_with_the_log_untouched(
    crashed: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    path = copied(crashed[0], tmp_path)
    journal = await SqliteJournal.open(path, Clock())
    await journal.close()  # folds the log into the file
    size = path.stat().st_size
    data = bytearray(path.read_bytes())
    data[size // 2 & ~4095 : (size // 2 & ~4095) + 4096] = bytes(4096)
    path.write_bytes(data)
    wal = path.with_name("journal.db-wal")
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            await SqliteJournal.open(path, Clock())
        assert refused.value.reason == "journal_corrupt"
        assert path.read_bytes() == data
        assert not wal.exists() or not wal.stat().st_size


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7])
async def test_a_cut_off_file_is_refused(crashed: tuple[Path, dict[str, int]], tmp_path: Path, part: float) -> None:
    path = copied(crashed[0], tmp_path)
    journal = await SqliteJournal.open(path, Clock())
    await journal.close()
    os.truncate(path, int(path.stat().st_size * part))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError) as refused:
        await SqliteJournal.open(path, Clock())
    assert refused.value.reason == "journal_corrupt"
    assert path.read_bytes() == before
