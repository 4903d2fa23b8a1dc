"""What it costs to tell another system of jobs, and what an endpoint costs that takes nothing.

The journal is on a file; the receiver is a process of its own and not counted. The floor of a message is a bare client
that signs and posts the same bytes to the same receiver, as many at once. Rounds alternate: the journal alone, with an
endpoint that takes everything, the bare client, with an endpoint that answers 503.

    python tests/benchmarks/bench_notifications.py
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from orchestrator.daemon.clock import SystemClock
from orchestrator.egress.addresses import is_public
from orchestrator.identity.webhook_keys import SharedKey
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model.events import Fact, JobOffered
from orchestrator.notifications.client import CONNECTIONS
from orchestrator.notifications.endpoint import Endpoint, Filter, Format
from orchestrator.notifications.messages import Origin
from orchestrator.notifications.notifier import Notifier, Surroundings
from orchestrator.notifications.outbox import Bounds
from orchestrator.notifications.schedule import Schedule
from orchestrator.telemetry.ids import traceparent
from orchestrator.testing.stories import WHOLE, offer

ROUNDS = 3
JOBS = 700
AT_ONCE = 64
OUTPUT = Path("build/bench/notifications.json")
SECRET = bytes(range(32))


@dataclass(frozen=True, slots=True)
class Round:
    """Of one round: seconds of this process' processor and of the clock, and what was sent."""

    cpu: float
    wall: float
    messages: int = 0
    feed: float = 0.0
    facts: int = 0
    tries: int = 0


@contextlib.contextmanager
def receiver(status: int) -> Iterator[str]:
    """A receiver that answers everything with `status`, in a process of its own."""
    command = [sys.executable, __file__, "--receiver", str(status)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/hooks"
        finally:
            process.terminate()


async def receive(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/hooks", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def sign(message_id: str, moment: int, body: bytes) -> str:
    return SharedKey(SECRET).sign(f"{message_id}.{moment}.".encode() + body)


@contextlib.asynccontextmanager
async def a_journal(folder: Path) -> AsyncIterator[SqliteJournal]:
    journal = await SqliteJournal.open(folder / "journal.db", SystemClock())
    try:
        yield journal
    finally:
        await journal.close()


async def jobs(journal: SqliteJournal) -> None:
    """Each job's facts by as many appends, many jobs at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def job(number: int) -> None:
        given = offer(str(number))
        async with slots:
            for event in (JobOffered(given), *WHOLE["failure"]):
                await journal.append([(given.key.id, event)])

    async with asyncio.TaskGroup() as group:
        for number in range(JOBS):
            group.create_task(job(number))


async def alone() -> Round:
    with tempfile.TemporaryDirectory() as folder:
        async with a_journal(Path(folder)) as journal:
            cpu, wall = time.process_time(), time.perf_counter()
            await jobs(journal)
            return Round(time.process_time() - cpu, time.perf_counter() - wall)


async def told(url: str, *, takes: bool) -> Round:
    """With one endpoint that wants everything; until all has arrived, or until all jobs are through."""
    endpoint = Endpoint("bench", url, Format.WEBHOOK, Filter(), sign, private=True)
    feed, facts = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        async with a_journal(Path(folder)) as journal:
            clock = SystemClock()
            near = Surroundings(
                journal, Origin("https://d.example", traceparent), str, is_public, clock.now_ns, SCHEDULE
            )
            notifier = await Notifier.open(Path(folder) / "notifications.db", [endpoint], Bounds(), near)

            def observe(given: Sequence[Fact]) -> None:
                nonlocal feed, facts
                begun = time.perf_counter()
                notifier.observe(given)
                feed, facts = feed + time.perf_counter() - begun, facts + len(given)

            journal.subscribe(observe)
            notifier.start()
            try:
                cpu, wall = time.process_time(), time.perf_counter()
                await jobs(journal)
                through = time.perf_counter() - wall
                while notifier.lag or (takes and notifier.state("bench").waiting):
                    await asyncio.sleep(0.01)
                spent = time.process_time() - cpu
                wall = time.perf_counter() - wall if takes else through
                state = notifier.state("bench")
                return Round(spent, wall, state.delivered or state.waiting, feed, facts, state.delivered + state.failed)
            finally:
                await notifier.stop(0)


async def bare(url: str, count: int) -> Round:
    """The least that a message needs: a signature over as many bytes, and a request."""
    left = iter(range(count))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            mac = hmac.new(SECRET, b"%d." % number + BODY, hashlib.sha256).hexdigest()
            headers = {"content-type": "application/json", "webhook-id": str(number), "webhook-signature": mac}
            async with session.post(url, data=BODY, headers=headers):
                pass

    async with aiohttp.ClientSession() as session:
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(CONNECTIONS)))
        return Round(time.process_time() - cpu, time.perf_counter() - wall, count)


BODY = json.dumps({"data": "x" * 500}).encode()
SCHEDULE = Schedule(lambda: 0.0)


def middle(values: Sequence[float]) -> float:
    return statistics.median(values)


async def measure() -> dict[str, dict[str, float | str | None]]:
    silent, taking, least, failing = [], [], [], []
    with receiver(204) as takes, receiver(503) as refuses:
        for _ in range(ROUNDS):
            silent.append(await alone())
            taking.append(await told(takes, takes=True))
            least.append(await bare(takes, taking[-1].messages))
            failing.append(await told(refuses, takes=False))
    journal, count = middle([one.cpu for one in silent]), taking[0].messages
    message = middle([(one.cpu - journal) / one.messages for one in taking]) * 1e3
    floor = middle([one.cpu / one.messages for one in least]) * 1e3
    rate, bare_rate = middle([count / one.wall for one in taking]), middle([count / one.wall for one in least])
    quiet, dead = middle([JOBS / one.wall for one in silent]), middle([JOBS / one.wall for one in failing])
    more = middle([(one.cpu - journal) / JOBS for one in failing]) * 1e3
    feed = middle([one.feed / one.facts for one in taking]) * 1e6
    print(f"{count} messages of {JOBS} jobs; the endpoint that fails got {max(one.tries for one in failing)} requests")
    return {
        "message": {"ours": message, "floor": floor, "ratio": message / floor, "unit": "ms CPU a message, delivered"},
        "delivery": {"ours": rate, "floor": bare_rate, "ratio": rate / bare_rate, "unit": "messages a second"},
        "jobs_beside_a_dead_endpoint": {"ours": dead, "floor": quiet, "ratio": dead / quiet, "unit": "jobs a second"},
        "cpu_of_a_dead_endpoint": {
            "ours": more, "floor": journal / JOBS * 1e3, "ratio": more / (journal / JOBS * 1e3),
            "unit": "ms CPU a job more, over the journal's",
        },
        "feed": {"ours": feed, "floor": None, "ratio": None, "unit": "µs a fact, on the journal's feed"},
    }  # fmt: skip


def main() -> None:
    figures = uvloop.run(measure())
    for name, figure in figures.items():
        floor, ratio = figure["floor"], figure["ratio"]
        against = f" / {floor:8.2f} = {ratio:.2f}" if floor is not None else ""
        print(f"{name:28} {figure['ours']:8.2f}{against}  {figure['unit']}")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--receiver"]:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(receive(int(sys.argv[2])))
    else:
        main()
