"""A process that appends and acknowledges, to be killed: `appender.py <journal> <rounds>`.

Each round appends for several jobs at once, in appends of three facts, and prints `<platform id> <count>` only
after the append returned. `PRESS` in the environment makes the facts large.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from orchestrator.errors import TryAgainError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.job import Caller, JobId, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result

DONE = Outcome(Result.SUCCESS, EndReason.COMPLETED, "completed", 0)
FILLER = "x" * int(os.environ.get("PRESS", "10"))


class SystemClock:
    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def offer(name: str) -> tuple[JobId, events.Event]:
    made = JobOffer(JobKey("dispatch", name), JobSpec(name, PoolName("p"), FILLER), Caller("i", "s"))
    return made.key.id, events.JobOffered(made)


async def life(journal: SqliteJournal, name: str) -> None:
    job_id, offered = offer(name)
    admitted = events.JobAdmitted(Decision("d", Stage.ADMISSION, Verdict.ALLOW))
    note = events.AlarmRaised("test", FILLER)
    stored = 0
    for group in ([offered, admitted, note], [note, note, note], [events.JobEnded(DONE), note, events.JobFinished()]):
        try:
            stored += len(await journal.append([(job_id, event) for event in group]))
        except TryAgainError as error:
            say(f"! {error.reason} {journal.healthy}")
            return
        say(f"{name} {stored}")


async def main(path: Path, rounds: int) -> None:
    journal = await SqliteJournal.open(path, SystemClock())
    say(f"epoch {journal.epoch}")
    for number in range(rounds):
        lives = [life(journal, f"e{journal.epoch}-{number}-{n}") for n in range(8)]
        if number % 3 == 2:
            lives.append(compact(journal))
        await asyncio.gather(*lives)
    await journal.close()
    say("end")


async def compact(journal: SqliteJournal) -> None:
    try:
        await journal.compact(time.time_ns(), 0, 3_600 * 10**9, exporting=False)
    except TryAgainError as error:
        say(f"! {error.reason} {journal.healthy}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
