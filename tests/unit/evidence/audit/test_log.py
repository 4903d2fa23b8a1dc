"""The log as the daemon holds it: order, durability, sick disks, checkpoints told, and the end."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.evidence.audit import log as log_module
from orchestrator.evidence.audit.log import MAX_WAITING, AuditLog
from orchestrator.evidence.audit.record import RecordRefusedError
from orchestrator.evidence.audit.store import Pace
from orchestrator.evidence.audit.verify import verify

from .conftest import Clock, event, lines


@pytest.fixture(autouse=True)
def _quick_probes(monkeypatch):
    monkeypatch.setattr(log_module, "PROBE_SECONDS", 0.01)


class Disk:
    """Lets syncs fail, or wait, until told otherwise."""

    def __init__(self, monkeypatch) -> None:
        self.sick = False
        self.tries = 0
        self.go = threading.Event()
        self.go.set()
        self.held = threading.Event()
        real = os.fdatasync

        def fdatasync(descriptor: int) -> None:
            self.tries += 1
            self.held.set()
            self.go.wait(10)
            if self.sick:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        monkeypatch.setattr(os, "fdatasync", fdatasync)


@pytest.fixture
def disk(monkeypatch):
    with monkeypatch.context() as patch:
        yield Disk(patch)


def numbers(folder):
    return [json.loads(line)["journal_seq"] for line in lines(folder)]


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_what_is_done_is_on_the_disk_in_the_order_of_submission(tmp_path, key):
    folder = tmp_path / "audit"
    log = await AuditLog.open(folder, key)
    done: list[int] = []

    async def submit(number: int) -> None:
        await log.submit([event(number), event(number, kind="token.refused")])
        assert numbers(folder).count(number) == 2
        done.append(number)

    await asyncio.gather(*(submit(number) for number in range(1, 101)))
    assert done == list(range(1, 101))
    assert numbers(folder) == [number for number in range(1, 101) for _ in range(2)]
    assert (log.size, log.last_journal_seq, log.waiting, log.healthy) == (200, 100, 0, True)
    await log.close()
    await log.close()
    assert log.checkpoint.size == 200
    assert not log.healthy
    assert verify(folder, key.verifier).vouched == 200


async def test_many_that_wait_share_a_sync(tmp_path, key, disk):
    log = await AuditLog.open(tmp_path / "audit", key)
    disk.go.clear()
    first = log.submit([event(1)])
    await asyncio.to_thread(disk.held.wait, 10)
    rest = [log.submit([event(number)]) for number in range(2, 502)]
    assert log.waiting == 501
    assert log.size == 0
    assert not first.done()
    disk.go.set()
    await asyncio.gather(first, *rest)
    assert disk.tries == 2
    assert log.size == 501
    await log.close()


async def test_a_restart_goes_on_behind_the_last_fact(tmp_path, key):
    log = await AuditLog.open(tmp_path / "audit", key)
    await log.submit([event(7), event(0, journal_seq=0, kind="daemon.started")])
    await log.close()
    log = await AuditLog.open(tmp_path / "audit", key)
    assert (log.size, log.last_journal_seq) == (2, 7)
    with pytest.raises(GiveUpError) as caught:
        log.submit([event(7)])
    assert caught.value.reason == "audit_out_of_order"
    await log.submit([event(8)])
    await log.submit([])
    assert log.vkey == key.verifier.vkey
    await log.close()
    assert numbers(tmp_path / "audit") == [7, 0, 8]


@pytest.mark.parametrize("given", [[5, 4], [4, 5], [3], [6, 0, 4]])
async def test_facts_that_fall_behind_are_refused_whole(tmp_path, key, given):
    log = await AuditLog.open(tmp_path / "audit", key)
    await log.submit([event(4)])
    with pytest.raises(GiveUpError) as caught:
        log.submit([event(number, journal_seq=number) for number in given])
    assert caught.value.reason == "audit_out_of_order"
    await log.submit([event(5), event(0, journal_seq=0), event(5)])
    await log.close()
    assert numbers(tmp_path / "audit") == [4, 5, 0, 5]


async def test_an_event_that_cannot_be_written_takes_no_other_with_it_and_no_place(tmp_path, key):
    log = await AuditLog.open(tmp_path / "audit", key)
    with pytest.raises(RecordRefusedError):
        log.submit([event(1), event(2, data={"a": 0.5})])
    await log.submit([event(1)])
    await log.close()
    assert numbers(tmp_path / "audit") == [1]


async def test_the_daemons_log_tells_once_that_it_is_sick_and_once_that_it_is_well(tmp_path, key, disk):
    log = await AuditLog.open(tmp_path / "audit", key)
    with capture_logs() as told:
        disk.sick = True
        one = log.submit([event(1)])
        await until(lambda: disk.tries > 5)
        disk.sick = False
        await one
        await log.close()
    assert [line["event"] for line in told] == ["audit_not_written", "audit_well_again"]
    assert told[0]["reason"] == "audit_unavailable"
    assert "free space" in told[0]["fix"]


async def test_a_sick_disk_holds_all_back_in_order_and_loses_nothing(tmp_path, key, disk):
    folder = tmp_path / "audit"
    log = await AuditLog.open(folder, key)
    await log.submit([event(1)])
    disk.sick = True
    first = log.submit([event(2)])
    await until(lambda: not log.healthy)
    assert log.problem is not None
    assert log.problem.reason == "audit_unavailable"
    assert "free space" in log.problem.fix
    second = log.submit([event(3)])
    second.cancel()
    third = log.submit([event(4)])
    tries = disk.tries
    await until(lambda: disk.tries > tries + 3)
    assert not first.done()
    assert (log.size, log.last_journal_seq, log.waiting) == (1, 1, 3)
    disk.sick = False
    await asyncio.gather(first, third)
    await until(lambda: log.healthy)
    await log.close()
    # The one whose caller had gone is there too: nothing that was taken may leave a gap.
    assert numbers(folder) == [1, 2, 3, 4]
    assert verify(folder, key.verifier).ok


async def test_it_gets_well_without_anything_to_write(tmp_path, key, monkeypatch):
    log = await AuditLog.open(tmp_path / "audit", key, pace=Pace(checkpoint_records=1))
    real = os.fsync
    failing = True

    def fsync(descriptor: int) -> None:
        if failing:
            raise OSError(errno.EIO, "sick")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await log.submit([event(1)])
    await until(lambda: not log.healthy)
    assert log.checkpoint.size == 0
    failing = False
    await until(lambda: log.healthy and log.checkpoint.size == 1)
    await log.close()


async def test_what_waits_is_bounded(tmp_path, key, disk):
    log = await AuditLog.open(tmp_path / "audit", key)
    disk.sick = True
    one = log.submit([event(0, journal_seq=0) for _ in range(MAX_WAITING)])
    with pytest.raises(TryAgainError) as caught:
        log.submit([event(1)])
    assert caught.value.reason == "audit_unavailable"
    assert log.last_journal_seq == 0
    disk.sick = False
    await one
    await log.submit([event(1)])
    await log.close()


async def test_more_than_may_wait_is_taken_when_it_waits_alone(tmp_path, key):
    """Whoever keeps facts in one group until they are written could else never get them in."""
    log = await AuditLog.open(tmp_path / "audit", key)
    await log.submit([event(number) for number in range(1, MAX_WAITING + 2)])
    assert log.last_journal_seq == MAX_WAITING + 1
    await log.close()


async def test_a_disk_that_hangs_shows(tmp_path, key, disk, monkeypatch):
    monkeypatch.setattr(log_module, "STALLED_SECONDS", 0.05)
    log = await AuditLog.open(tmp_path / "audit", key)
    disk.go.clear()
    waits = log.submit([event(1)])
    assert log.healthy
    await until(lambda: not log.healthy)
    assert log.problem is not None
    assert "0.05 s" in str(log.problem)
    disk.go.set()
    await waits
    assert log.healthy
    await log.close()


async def test_closing_tells_those_whose_records_were_never_written(tmp_path, key, disk):
    folder = tmp_path / "audit"
    log = await AuditLog.open(folder, key)
    await log.submit([event(1)])
    disk.sick = True
    lost = log.submit([event(2)])
    await until(lambda: not log.healthy)
    await log.close()
    with pytest.raises(TryAgainError) as caught:
        await lost
    assert caught.value.reason == "audit_unavailable"
    with pytest.raises(TryAgainError):
        log.submit([event(3)])
    disk.sick = False
    log = await AuditLog.open(folder, key)
    assert log.last_journal_seq == 1
    await log.submit([event(2)])
    await log.close()
    assert numbers(folder) == [1, 2]


async def test_checkpoints_are_told_on_the_loop_and_one_readers_defect_stays_its_own(tmp_path, key):
    log = await AuditLog.open(tmp_path / "audit", key, pace=Pace(checkpoint_records=2))
    told: list[int] = []
    loop = threading.get_ident()

    def defect(checkpoint) -> None:
        raise RuntimeError(checkpoint.size)

    def feed(checkpoint) -> None:
        assert threading.get_ident() == loop
        assert log.checkpoint is checkpoint
        told.append(checkpoint.size)

    log.subscribe(defect)
    end = log.subscribe(feed)
    for number in range(1, 6):
        await log.submit([event(number)])
    await until(lambda: told == [2, 4])
    await log.close()
    assert told == [2, 4, 5]
    end()
    end()


async def test_a_quiet_log_signs_when_the_time_has_come(tmp_path, key):
    log = await AuditLog.open(tmp_path / "audit", key, pace=Pace(checkpoint_seconds=0.05))
    await log.submit([event(1)])
    await until(lambda: log.checkpoint.size == 1)
    await log.close()
    history = (tmp_path / "audit" / "checkpoints").read_text()
    assert history.count("ci.example/audit\n") == 2


async def test_a_defect_in_writing_shows_and_is_tried_again(tmp_path, key, monkeypatch):
    log = await AuditLog.open(tmp_path / "audit", key, Clock())
    real = log._store.commit
    broken = True

    def commit(records):
        if broken:
            raise RuntimeError("defect")
        return real(records)

    monkeypatch.setattr(log._store, "commit", commit)
    one = log.submit([event(1)])
    await until(lambda: not log.healthy)
    assert log.problem is not None
    assert "RuntimeError" in str(log.problem)
    broken = False
    await one
    assert log.healthy
    await log.close()
