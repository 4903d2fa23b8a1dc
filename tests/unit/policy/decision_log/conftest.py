from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchestrator.lifecycle.ports import Clock
from orchestrator.model.events import Fact, JobOffered
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import begin
from orchestrator.policy.decide import Answered, PolicyDecider
from orchestrator.policy.decision_log.shadow import Candidate
from orchestrator.policy.decision_log.writer import Bounds, DecisionLog
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import Bundle, bundle_of
from orchestrator.policy.lookups import Lookups

START = 1_795_341_600_000_000_000
SECOND = 10**9
DAY = 86_400 * SECOND
KEEP_ALL = Bounds(1 << 30, 400 * DAY)
POLICY = """package orchestrator

decision := {"allow": count(reasons) == 0, "reasons": reasons, "observed": observed}

reasons contains {"code": "not_ours", "message": "only acme"} if {
	not startswith(input.caller.facts.repository, "acme/")
}

reasons contains {"code": "no_prod", "message": "not to prod"} if {
	input.request.deployment_environment in data.closed
}

observed contains {"code": "odd_pool", "message": "watched"} if input.pool.name == "odd"
"""
TEST = """package orchestrator_test

import data.orchestrator

test_ours if orchestrator.decision.allow with input as {"caller": {"facts": {"repository": "acme/a"}}}
"""


def rules(policy: str = POLICY, closed: tuple[str, ...] = ()) -> Bundle:
    """A bundle as the one of these tests, which may be changed."""
    data = json.dumps({"closed": list(closed)})
    files = {"decision.rego": policy, "decision_test.rego": TEST, "data.json": data}
    return bundle_of({path: text.encode() for path, text in files.items()}, "the test's bundle")


def write_rules(folder: Path, bundle: Bundle) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in bundle.contents.items():
        (folder / path).write_bytes(content)
    return folder


async def nothing_known(_digest: str) -> None:
    return None


class SteppedClock(Clock):
    def __init__(self) -> None:
        self.at_ns = START

    def now_ns(self) -> int:
        return self.at_ns


@dataclass
class Deciding:
    """Decides really, and collects what a listener hears."""

    bundle: Bundle = field(default_factory=rules)
    clock: SteppedClock = field(default_factory=SteppedClock)
    heard: list[Answered] = field(default_factory=list)

    def decide(
        self, job: str, repository: str = "acme/shop", environment: str = "", pool: str = "default", step: int = SECOND
    ) -> Answered:
        """The next decision, `step` nanoseconds after the one before."""
        self.clock.at_ns += step
        engine = RegorusEngine(self.bundle.modules, self.bundle.data_json, self.bundle.digest)
        decider = PolicyDecider(engine, Lookups(nothing_known), self.clock, listener=self.heard.append)
        spec = JobSpec("build", PoolName(pool), "make", deployment_environment=environment)
        caller = Caller("https://ci.example", f"repo:{repository}", {"repository": repository})
        offer = JobOffer(JobKey("dispatch", job), spec, caller)
        record = begin(Fact(offer.key.id, self.clock.at_ns, JobOffered(offer)))
        where = Pool(PoolName(pool), "sandbox", TrustTier.STANDARD, 4, "host-toolchain", "bubblewrap", ())
        asyncio.run(decider.admit(record, where))
        return self.heard[-1]


@pytest.fixture
def deciding() -> Deciding:
    return Deciding()


Keep = Callable[..., DecisionLog]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Write decisions into the log in `tmp_path / "decisions"`, by a daemon of its own."""

    def write(
        answered: list[Answered], bounds: Bounds = KEEP_ALL, candidate: Candidate | None = None, version: str = "1"
    ) -> DecisionLog:
        async def run() -> DecisionLog:
            log = DecisionLog(tmp_path / "decisions", {"version": version}, bounds, candidate or Candidate())
            for one in answered:
                log.offer(one)
            await log.close()
            return log

        return asyncio.run(run())

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "decisions"
