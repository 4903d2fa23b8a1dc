"""What it costs to keep decisions, and how many can be decided again in a second.

The log holds what a daemon really decides: four of five are builds, one goes on to staging with evidence about an
artifact; what either costs alone is told as well. Rates are per second of processor time, that of workers included, and
the ratio is against the bare interpreter on the same documents, so that both survive a busy machine; `per_second` is by
the clock on the wall.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator.lifecycle.ports import Clock
from orchestrator.model.egress import EgressRule
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record, begin
from orchestrator.policy.bundle import BundleHolder, default_bundle, load_bundle
from orchestrator.policy.decide import Answered, PolicyDecider
from orchestrator.policy.decision_log.reading import SegmentReader, Window
from orchestrator.policy.decision_log.replay import Plan, replay
from orchestrator.policy.decision_log.segments import segments_of
from orchestrator.policy.decision_log.shadow import Candidate
from orchestrator.policy.decision_log.writer import Bounds, DecisionLog
from orchestrator.policy.engine import ENTRYPOINT
from orchestrator.policy.lookups import Lookups
from orchestrator.policy.rego import RegoProgram

BUILT = {
    "builder": "https://orchestrator.example",
    "caller_issuer": "https://ci.example",
    "repository": "acme/shop",
    "trust_tier": "standard",
}
EVIDENCE = {"signed": True, "sbom": True, "provenance": True, "base": "distroless", "built": BUILT}
DECISIONS, TURNS = 20_000, 2
POOL = Pool(
    PoolName("default"), "sandbox", TrustTier.STANDARD, 4, "host-toolchain", "bubblewrap", (EgressRule("a.example"),)
)  # fmt: skip


class WallClock(Clock):
    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def evidence_for(digest: str) -> dict[str, Any]:
    """Built by the repository that deploys it."""
    return EVIDENCE | {"digest": digest, "built": BUILT | {"repository": f"acme/shop-{int(digest[7:], 16)}"}}


def record(number: int) -> Record:
    environment = "" if number % 5 else "staging"
    digest = f"sha256:{number % 50:064x}" if environment else ""
    spec = JobSpec("deploy", POOL.name, "make deploy\n" * 20, {"A": "1"}, 0, environment, digest)
    facts = {"repository": f"acme/shop-{number % 50}", "ref": "refs/heads/main"}
    offer = JobOffer(JobKey("dispatch", f"job-{number}"), spec, Caller("https://ci.example", "repo:acme/shop", facts))
    return begin(Fact(offer.key.id, time.time_ns(), JobOffered(offer)))


async def fill(folder: Path) -> dict[str, Any]:
    """Decide and keep; what the keeping costs the one who decides, and in all."""
    told: list[Answered] = []
    decider = PolicyDecider(BundleHolder(default_bundle()), Lookups(evidence_for), WallClock(), listener=told.append)
    for number in range(DECISIONS):
        await decider.admit(record(number), POOL)
    log = DecisionLog(folder, {"version": "bench"}, Bounds(1 << 34, 1 << 62, segment_bytes=256 << 10), Candidate())
    # In batches below the bound of what may wait; the thread that keeps them runs beside.
    slowest, offered, began_cpu, began = 0, 0, time.process_time(), time.perf_counter()
    for at in range(0, DECISIONS, 2000):
        for one in told[at : at + 2000]:
            start = time.perf_counter_ns()
            log.offer(one)
            took = time.perf_counter_ns() - start
            offered += took
            slowest = max(slowest, took)
        while log.written < at + 2000 - 200 and not log.lost:
            await asyncio.sleep(0.001)
    await log.close()
    cpu, wall = time.process_time() - began_cpu, time.perf_counter() - began
    assert (log.lost, log.written) == (0, DECISIONS)
    size = sum(one.path.stat().st_size for one in segments_of(folder))
    document = sum(len(one.input_json) for one in told) / DECISIONS
    return {
        "hand_over": alone(offered / DECISIONS / 1000, "us on the loop"),
        "hand_over_slowest": alone(slowest / 1000, "us on the loop"),
        "keep": alone(cpu / DECISIONS * 1e6, "us of CPU on the log's thread, and handing over"),
        "keep_rate": alone(DECISIONS / wall, "decisions per second"),
        "kept_bytes": {
            "ours": round(size / DECISIONS, 1),
            "floor": round(document),
            "ratio": round(size / DECISIONS / document, 3),
            "unit": "bytes of file a decision, of its document's",
        },
    }


def alone(value: float, unit: str) -> dict[str, Any]:
    """A figure that nothing stands beside."""
    return {"ours": round(value, 2), "floor": None, "ratio": None, "unit": unit}


def processor_seconds() -> float:
    """Of this process and of those it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], object], count: int = DECISIONS) -> tuple[float, float]:
    """Decisions per second of processor time, and of the clock on the wall."""
    began, began_wall = processor_seconds(), time.perf_counter()
    work()
    return count / (processor_seconds() - began), count / (time.perf_counter() - began_wall)


def measure(folder: Path) -> dict[str, Any]:
    bundle = load_bundle(default_bundle())
    plan = Plan(Window(0, 1 << 62), bundle)
    entries = [entry for one in segments_of(folder) for entry in SegmentReader(one).entries()]
    assert len(entries) == DECISIONS
    assert {entry.custom.verdict.value for entry in entries} == {"allow"}
    texts = [entry.input_json for entry in entries]
    program = RegoProgram(bundle.modules, bundle.data_json)

    def bare(some: Sequence[str] = texts) -> None:
        for text in some:
            program.rule(ENTRYPOINT, text)

    def again(workers: int) -> None:
        tally = replay(folder, plan, workers)
        assert (tally.replayed, tally.changed, tally.problems()) == (DECISIONS, 0, [])

    rates: dict[str, list[tuple[float, float]]] = {"floor": [], "one_process": [], "all_processors": []}
    for _ in range(TURNS):
        rates["floor"].append(timed(bare))
        rates["one_process"].append(timed(lambda: again(1)))
        rates["all_processors"].append(timed(lambda: again(0)))
    cpu, wall = (
        {name: round(statistics.median(rate[kind] for rate in found)) for name, found in rates.items()}
        for kind in (0, 1)
    )
    split = {
        f"bare_{kind}": alone(timed(lambda: bare(texts[at::5]), len(texts[at::5]))[0], "decisions per CPU second")  # noqa: B023
        for kind, at in (("staging", 0), ("builds", 1))
    }
    return split | {
        f"replay_{name}": {
            "ours": cpu[name],
            "floor": cpu["floor"],
            "ratio": round(cpu[name] / cpu["floor"], 3),
            "unit": "decisions per CPU second",
            "per_second": wall[name],
        }
        for name in ("one_process", "all_processors")
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = asyncio.run(fill(Path(folder))) | measure(Path(folder))
    figures["processors"] = alone(len(os.sched_getaffinity(0)), "processors")
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    target = Path("build/bench/replay.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
