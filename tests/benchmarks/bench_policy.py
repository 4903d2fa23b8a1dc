"""What one decision costs: the whole `PolicyDecider.admit` against the bare interpreter on the same input.

Both run in this process and one after the other in short turns, so that the ratio survives a busy machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.model.egress import EgressRule
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import begin
from orchestrator.policy.bundle import (
    BundleHolder,
    check_empty_document,
    check_syntax,
    check_tests,
    default_bundle,
    load_bundle,
)
from orchestrator.policy.canary import run_canaries
from orchestrator.policy.decide import PolicyDecider
from orchestrator.policy.engine import ENTRYPOINT
from orchestrator.policy.files import Bundle, read_bundle
from orchestrator.policy.input import admission_input
from orchestrator.policy.lookups import Lookups, Verified
from orchestrator.policy.rego import RegoProgram

DIGEST = "sha256:" + "a" * 64
BUILT = {
    "builder": "https://orchestrator.example",
    "caller_issuer": "https://ci.example",
    "repository": "acme/shop",
    "trust_tier": "standard",
}
EVIDENCE = {"digest": DIGEST, "signed": True, "sbom": True, "provenance": True, "base": "distroless", "built": BUILT}
TURNS, EACH = 15, 300


class WallClock:
    def now_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def evidence_for(_: str) -> Mapping[str, Any] | None:
    return EVIDENCE


async def per_second(once: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time()
    for _ in range(EACH):
        await once()
    return EACH / (time.process_time() - began)


async def measure(deployment_environment: str) -> dict[str, float]:
    pool = Pool(
        PoolName("default"),
        "sandbox",
        TrustTier.STANDARD,
        4,
        "host-toolchain",
        "bubblewrap",
        (EgressRule("a.example"),),
    )
    spec = JobSpec("deploy", pool.name, "make deploy\n" * 20, {"A": "1"}, 0, deployment_environment, DIGEST)
    caller = Caller("https://ci.example", "repo:acme/shop", {"repository": "acme/shop", "ref": "refs/heads/main"})
    offer = JobOffer(JobKey("dispatch", "abc"), spec, caller)
    record = begin(Fact(offer.key.id, time.time_ns(), JobOffered(offer)))
    holder = BundleHolder(default_bundle())
    decider = PolicyDecider(holder, Lookups(evidence_for), WallClock())
    bundle = load_bundle(default_bundle())
    program = RegoProgram(bundle.modules, bundle.data_json)
    document = msgspec.json.encode(admission_input(record, pool, time.time_ns(), Verified(EVIDENCE))).decode()

    async def bare() -> object:
        return program.rule(ENTRYPOINT, document)

    async def whole() -> object:
        decision = await decider.admit(record, pool)
        assert decision.allowed
        return decision

    floors, ours = [], []
    for _ in range(TURNS):
        floors.append(await per_second(bare))
        ours.append(await per_second(whole))
    floor, mine = statistics.median(floors), statistics.median(ours)
    return {"ours": round(mine), "floor": round(floor), "ratio": round(mine / floor, 3)}


def prove(bundle: Bundle) -> None:
    """All that a bundle goes through when it is loaded for the first time."""
    run_canaries()
    check_syntax(bundle)
    check_empty_document(bundle)
    check_tests(bundle)


async def main() -> None:
    figures: dict[str, dict[str, Any]] = {}
    for environment in ("", "staging"):
        name = f"admit_{environment or 'build'}"
        figures[name] = await measure(environment) | {"unit": "decisions per CPU second"}
        print(f"{name}: {figures[name]}")
    began = time.process_time()
    prove(read_bundle(default_bundle()))
    seconds = time.process_time() - began
    figures["load_bundle"] = {"ours": round(seconds * 1000, 1), "floor": None, "ratio": None, "unit": "ms, all checks"}
    print(f"load_bundle: {figures['load_bundle']}")
    target = Path("build/bench/policy.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
