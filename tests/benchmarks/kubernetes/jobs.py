"""Jobs a second, writes, processor time and added latency on a real API server, against raw requests.

Ours, in two cuts (`ours.py`), and the floor (`floor.py`) run in this process, in turns, as many pods at once, of the
same documents, played by the same scripted node in a process of its own (`node.py`). Its stand-in for the agent claims
the work: of the whole daemon over TLS with the pod's own token, which the API server reviews. The floor has nothing
to claim; a second one, for comparison, answers such claims too.

The added latency is taken at half the rate that ours reached: offers come at random times (Poisson), each measured
from the moment it is accepted, that is durable, to the moment the request that makes its pod is sent.

    KUBECONFIG=... python tests/benchmarks/kubernetes/jobs.py [jobs of a round] [rounds]
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import uvloop
from cluster import (
    Node,
    config,
    empty_namespace,
    figure,
    make_namespace,
    others_cpu,
    percentile,
    request_counts,
    write,
    writes,
)
from floor import ClaimedFloor, Floor
from ours import Core, Daemon, settings_document

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.daemon.collector import spare_the_loop
from orchestrator.identity.serving_certificate import ServingCertificate
from orchestrator.model.events import Fact
from orchestrator.model.job import PoolName
from orchestrator.model.runner import runner_name
from orchestrator.testing.ports import free_port

Figures = dict[str, dict[str, object]]
AT_ONCE = 64
"""Jobs in flight, and the pool's capacity."""


@dataclass(frozen=True)
class Round:
    """Jobs a second by the wall clock, and processor milliseconds for each: of this process, of its event loop's
    thread alone (the rest is the journal's writer), and of the other processes by name.
    """

    rate: float
    cpu_ms: float
    loop_ms: float
    others_ms: dict[str, float]


async def round_of(jobs: int, one: Callable[[], Awaitable[None]]) -> Round:
    """`jobs` of them, AT_ONCE at a time."""
    numbers = iter(range(jobs))

    async def lane() -> None:
        for _ in numbers:
            await one()

    before = others_cpu()
    wall, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    wall, cpu, loop = time.perf_counter() - wall, time.process_time() - cpu, time.thread_time() - loop
    others = {name: (seconds - before[name]) / jobs * 1e3 for name, seconds in others_cpu().items()}
    return Round(jobs / wall, cpu / jobs * 1e3, loop / jobs * 1e3, others)


def print_steps(stories: list[list[Fact]]) -> None:
    """Where a job's time went at the highest rate: medians between its facts."""
    steps: dict[tuple[str, str], list[float]] = {}
    for facts in stories:
        for before, fact in pairwise(facts):
            if fact.at_ns > before.at_ns:
                names = (type(before.event).__name__, type(fact.event).__name__)
                steps.setdefault(names, []).append((fact.at_ns - before.at_ns) / 1e6)
    for (before, after), took in steps.items():
        print(f"  {before} to {after}: median {statistics.median(took):.1f} ms, in {len(took)} of {len(stories)} jobs")


async def added_latency(ours: Daemon, jobs: int, rate: float) -> list[float]:
    """Milliseconds from accepted to the create request, at so many offers a second."""
    accepted: dict[str, float] = {}
    ours.note_creates()
    dice = random.Random(7)

    async def one() -> None:
        job_id = await ours.offer()
        accepted[runner_name(job_id)] = time.perf_counter()
        await ours.done(job_id)

    async with asyncio.TaskGroup() as group:
        due = time.perf_counter()
        for _ in range(jobs):
            due += dice.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one())
    # A request sent before the offer's caller came to run again was not late at all.
    return [max(0.0, ours.created[name] - at) * 1e3 for name, at in accepted.items()]


def print_profile(profiler: cProfile.Profile, jobs: int) -> None:
    stats = pstats.Stats(profiler)
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])
    total = sum(row[1][2] for row in rows)
    print(f"\nprofile of the loop's thread, own processor time, {jobs} jobs (slower than the figures)")
    for (path, line, name), (_, calls, own, _, _) in rows[:25]:
        where = f"{'/'.join(Path(path).parts[-2:])}:{line}" if path != "~" else "built-in"
        print(f"{own / total:6.1%} {own / jobs * 1e6:7.1f} µs a job {calls / jobs:6.1f} calls  {name[:60]}  ({where})")


@dataclass
class Rounds:
    """What one contestant reached, and what the server counted for it meanwhile."""

    name: str
    one: Callable[[], Awaitable[None]]
    done: list[Round] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    async def more(self, jobs: int, admin: ApiClient) -> None:
        before = await request_counts(admin)
        self.done.append(await round_of(jobs, self.one))
        self.sent += await request_counts(admin) - before
        last = self.done[-1]
        others = ", ".join(f"{name} {ms:.1f}" for name, ms in last.others_ms.items())
        print(
            f"{self.name:6} {last.rate:6.1f}/s  {last.cpu_ms:5.2f} ms CPU a job, loop {last.loop_ms:.2f}; {others}",
            flush=True,
        )

    @property
    def rate(self) -> float:
        return statistics.median(one.rate for one in self.done)

    @property
    def loop_ms(self) -> float:
        return statistics.median(one.loop_ms for one in self.done)

    @property
    def cpu_ms(self) -> float:
        return statistics.median(one.cpu_ms for one in self.done)


@dataclass(frozen=True)
class Contestants:
    core: Core
    daemon: Daemon
    floor: Floor
    claimed: ClaimedFloor

    def rounds(self) -> list[Rounds]:
        named = {"core": self.core, "daemon": self.daemon, "floor": self.floor, "claims": self.claimed}
        return [Rounds(name, one.job) for name, one in named.items()]


async def measure(all_of: Contestants, admin: ApiClient, jobs: int, rounds: int) -> Figures:
    core, daemon, all_rounds = all_of.core, all_of.daemon, all_of.rounds()
    for one in all_rounds:
        await round_of(AT_ONCE, one.one)
    for number in range(rounds):
        # Everyone is first, second and last in turn.
        first = number % len(all_rounds)
        for one in all_rounds[first:] + all_rounds[:first]:
            await one.more(jobs, admin)
    mine, whole, bare, claimed = all_rounds
    print_steps([await daemon.journal.facts_of(one) for one in list(daemon.last)[-jobs:]])
    latency = await added_latency(daemon, max(jobs, 200), whole.rate / 2)
    profiler = cProfile.Profile(time.thread_time)
    profiler.enable()
    await round_of(jobs, core.job)
    profiler.disable()
    print_profile(profiler, jobs)
    unhappy = core.unhappy + daemon.unhappy
    assert not unhappy, unhappy[:3]
    print(f"\n{jobs} jobs a round, {rounds} rounds, {AT_ONCE} at once; {dict(mine.sent)} and {dict(whole.sent)}")
    made = jobs * rounds
    half = round(whole.rate / 2, 1)
    return {
        "jobs_per_second": figure(mine.rate, bare.rate, "1/s", aim=">= 0.8 of the floor"),
        "jobs_per_second_daemon": figure(whole.rate, bare.rate, "1/s", aim=">= 0.8 of the floor"),
        "cpu_per_job": figure(mine.cpu_ms, bare.cpu_ms, "ms", aim="<= 3 of the floor"),
        "cpu_per_job_loop": figure(mine.loop_ms, bare.loop_ms, "ms"),
        "cpu_per_job_daemon": figure(whole.cpu_ms, bare.cpu_ms, "ms", aim="<= 3 of the floor"),
        "jobs_per_second_daemon_to_claims": figure(whole.rate, claimed.rate, "1/s"),
        "cpu_per_job_daemon_to_claims": figure(whole.cpu_ms, claimed.cpu_ms, "ms"),
        "writes_per_job": figure(writes(mine.sent) / made, writes(bare.sent) / made, "", aim="2"),
        "writes_per_job_daemon": figure(writes(whole.sent) / made, writes(bare.sent) / made, "", aim="2"),
        "reads_per_job_daemon": figure((whole.sent["GET"] + whole.sent["LIST"]) / made, None, ""),
        "added_latency_p50": figure(percentile(latency, 0.5), None, "ms", aim="< 10", offers_per_second=half),
        "added_latency_p99": figure(percentile(latency, 0.99), None, "ms", aim="< 50", offers_per_second=half),
    }


async def main(jobs: int, rounds: int) -> Figures:
    # As the daemon sets it: sqlite3 gives up the interpreter lock at every row.
    sys.setswitchinterval(0.0005)
    mark = f"{time.time_ns() // 10**6:x}"
    spaces = {name: f"bench-{mark}-{name}" for name in ("core", "daemon", "floor", "claimed")}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        admin = await stack.enter_async_context(await ApiClient.open(config()))
        for space in spaces.values():
            await make_namespace(admin, space)
            stack.push_async_callback(empty_namespace, admin, space)
        core = await Core.open(settings_document(folder / "core", "core", spaces["core"], AT_ONCE))
        stack.push_async_callback(core.close)
        daemon = await Daemon.open(settings_document(folder / "daemon", "daemon", spaces["daemon"], AT_ONCE))
        stack.push_async_callback(daemon.close)
        made = kubernetes_config(daemon.settings)
        mine = made.pools[daemon.pool]
        bare, claiming = (replace(mine, name=PoolName(one), namespace=spaces[one]) for one in ("floor", "claimed"))
        floor = Floor(await Access.open(config()), bare, made)
        await floor.start()
        stack.push_async_callback(floor.close)
        claimed = ClaimedFloor(await Access.open(config()), claiming, made)
        await claimed.start()
        # The daemon's own certificate, so that both shake hands alike.
        serving = ServingCertificate.open(daemon.settings.state_dir / "keys", "127.0.0.1", time.time)
        await claimed.serve(port := free_port(), serving.context)
        stack.push_async_callback(claimed.close)
        where = {core.pool: core.claims_at, daemon.pool: daemon.claims_at, "claimed": f"https://127.0.0.1:{port}"}
        claims = [f"--claims={pool}={at}" for pool, at in where.items()]
        node = Node("product", *spaces.values(), *claims, "--ca", str(folder / "daemon" / "runner-api-ca.pem"))
        stack.callback(node.end)
        spare_the_loop()  # as the daemon does
        return await measure(Contestants(core, daemon, floor, claimed), admin, jobs, rounds)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    write("kubernetes_jobs", uvloop.run(main(*(arguments + [150, 6][len(arguments) :]))))
