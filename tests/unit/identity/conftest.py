"""A stepped clock, one issuer with its keys, and a bound job."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.identity.issuer import AudienceConfig, Issuer, IssuerConfig
from orchestrator.identity.keys import KeyStore
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.model.decision import Decision, Obligations, Stage, Verdict
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.model.runner import runner_name

START = 1_800_000_000
ISSUER = "http://127.0.0.1:8455"


@dataclass
class SteppedClock:
    seconds: float = START

    def now_ns(self) -> int:
        return int(self.seconds * 1_000_000_000)

    def monotonic(self) -> float:
        return self.seconds - START

    def step(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory) -> KeyStore:
    """Making and parsing keys is slow, so one set is made once and copied."""
    return KeyStore.open(tmp_path_factory.mktemp("made") / "keys", RotationSchedule(), START)


@pytest.fixture(scope="session")
def key_folder(made_keys: KeyStore) -> Path:
    return made_keys._folder


@pytest.fixture
def keys(made_keys: KeyStore, key_folder: Path, tmp_path: Path) -> KeyStore:
    shutil.copytree(key_folder, tmp_path / "keys")
    return KeyStore(tmp_path / "keys", made_keys.schedule, made_keys._keys)


@pytest.fixture
def issuer(keys: KeyStore, clock: SteppedClock) -> Issuer:
    audiences = {
        "cloud": AudienceConfig(),
        "ca": AudienceConfig(),
        "cluster": AudienceConfig(algorithm="ES256", max_ttl_seconds=60),
    }
    return Issuer(IssuerConfig(ISSUER, audiences), keys, clock.now_ns)


@pytest.fixture(scope="session")
def pool() -> Pool:
    return Pool(
        name=PoolName("default"),
        backend="sandbox",
        trust_tier=TrustTier.STANDARD,
        capacity=4,
        base="host-toolchain",
        isolation="bubblewrap",
        max_job_seconds=3600,
    )


GITHUB_FACTS = {
    "repository": "acme/app",
    "repository_id": "34",
    "repository_owner_id": "12",
    "ref": "refs/heads/main",
    "sha": "a" * 40,
}


def make_record(
    *,
    facts: dict[str, str] | None = None,
    environment: str = "staging",
    platform_id: str = "job1",
    **changes,
) -> Record:
    spec = JobSpec(name="deploy", pool=PoolName("default"), script="echo deploy", deployment_environment=environment)
    caller = Caller("https://ci.example", "repo:acme/app", GITHUB_FACTS if facts is None else facts)
    offer = JobOffer(JobKey("dispatch", platform_id), spec, caller)
    record = Record(
        offer=offer,
        offered_at_ns=START * 1_000_000_000,
        phase=Phase.RUNNING,
        runner=runner_name(offer.key.id),
        runner_uid="uid-1",
        bound_uid="uid-1",
        bound_at_ns=START * 1_000_000_000,
    )
    return replace(record, **changes)


@pytest.fixture(name="make_record")
def make_record_fixture() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def record() -> Record:
    return make_record()


def make_decision(verdict: Verdict = Verdict.ALLOW, **obligations) -> Decision:
    return Decision(
        id="decision-1",
        stage=Stage.EXCHANGE,
        verdict=verdict,
        obligations=Obligations(**obligations),
        bundle_digest="sha256:" + "b" * 64,
        input_digest="sha256:" + "c" * 64,
    )


@pytest.fixture(name="make_decision")
def make_decision_fixture() -> Callable[..., Decision]:
    return make_decision
