"""Runs on a real small disk, or under a real file size limit: `full_disk.py <folder> tmpfs|limit`.

Exit code 0: all held.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from pathlib import Path

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.journal import sqlite
from orchestrator.journal.port import JobQuery
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName

sqlite.PROBE_SECONDS = 0.02


class Clock:
    def now_ns(self) -> int:
        return 1_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def offered(name: str) -> tuple[JobId, events.Event]:
    offer = JobOffer(JobKey("dispatch", name), JobSpec(name, PoolName("p"), "x" * 20_000), Caller("i", "s"))
    return offer.key.id, events.JobOffered(offer)


def take_space(folder: Path, kind: str) -> None:
    if kind == "limit":
        largest = max(file.stat().st_size for file in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 200_000, resource.RLIM_INFINITY))


def give_space(folder: Path, kind: str) -> None:
    if kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        (folder / "ballast").unlink()


async def main(folder: Path, kind: str) -> None:
    path = folder / "journal.db"
    if kind == "tmpfs":
        (folder / "ballast").write_bytes(b"b" * 2_000_000)
    journal = await SqliteJournal.open(path, Clock())
    stored: list[str] = []
    seen: list[str] = []
    journal.subscribe(lambda facts: seen.extend(fact.event.offer.spec.name for fact in facts))  # type: ignore[union-attr]
    await journal.append([offered("first")])
    stored.append("first")
    take_space(folder, kind)
    refusals: list[tuple[str, str]] = []
    for number in range(300):
        names = [f"n{number}-{n}" for n in range(3)]
        try:
            await journal.append([offered(name) for name in names])
        except TryAgainError as error:
            refusals.append((error.reason, error.fix))
            if len(refusals) == 5:
                break
        else:
            stored += names
    assert len(refusals) == 5, "the disk never got full"
    assert {reason for reason, _ in refusals} == {"journal_unavailable"}
    assert all("free space" in fix for _, fix in refusals)
    assert len(stored) > 1
    assert seen == stored
    assert [line.name for line in reversed(await journal.jobs(JobQuery(limit=500)))] == stored, "reads go on"
    assert len(await journal.live()) == len(stored)

    give_space(folder, kind)
    async with asyncio.timeout(10):
        while not journal.healthy:
            await asyncio.sleep(0.005)
    await journal.append([offered("after")])
    stored.append("after")
    assert [line.name for line in reversed(await journal.jobs(JobQuery(limit=500)))] == stored
    await journal.close()

    again = await SqliteJournal.open(path, Clock())
    assert [line.name for line in reversed(await again.jobs(JobQuery(limit=500)))] == stored
    assert [len(facts) for facts in await again.live()] == [1] * len(stored)
    await again.close()
    if kind == "tmpfs":
        await refused_on_a_full_disk(folder)


async def refused_on_a_full_disk(folder: Path) -> None:
    """No journal is better than half of one."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(b"b" * 4096)
    (folder / "other").mkdir()
    for path in (folder / "other" / "journal.db", folder / "journal.db"):
        reason = ""
        try:
            await SqliteJournal.open(path, Clock())
        except ConfigurationError as error:
            reason = error.reason
        assert reason == "journal_unwritable", f"{path.parent.name}: {reason}"
    assert not (folder / "other" / "journal.db").exists()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
