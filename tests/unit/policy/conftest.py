from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof, EgressRule
from orchestrator.model.events import (
    Fact,
    JobAdmitted,
    JobOffered,
    ProvisionStarted,
    RunnerBound,
    RunnerCreated,
)
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import runner_name
from tests.unit.policy import samples
from tests.unit.policy.samples import DIGEST

SEVERITIES = ("critical", "high", "medium", "low", "unknown")
START = 1_795_341_600_000_000_000

BUILDER = "https://ci.example/builders/sandbox/bubblewrap/protected/v1"

GOOD_EVIDENCE = samples.ARTIFACT | {
    "built": {
        "builder": BUILDER,
        "trust_tier": "protected",
        "repository": "acme/shop",
        "repository_id": "42",
        "sha": "c" * 40,
        "caller_issuer": "https://ci.example",
        "caller": "0123456789abcdef",
    },
    "provenances": [samples.ARTIFACT["provenances"][0] | {"caches": []}],
    "scans": [samples.ARTIFACT["scans"][0] | {"counts": dict.fromkeys(SEVERITIES, 0), "found": []}],
}


@pytest.fixture
def make_pool() -> Callable[..., Pool]:
    def make(**change: Any) -> Pool:
        values: dict[str, Any] = {
            "name": PoolName("default"),
            "backend": "sandbox",
            "trust_tier": TrustTier.STANDARD,
            "capacity": 4,
            "base": "host-toolchain",
            "isolation": "bubblewrap",
            "egress": (EgressRule("*.example.com"), EgressRule("git.example.org", 8443)),
        }
        return Pool(**(values | change))

    return make


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A record from real facts: offered, and with `bound=True` up to the binding."""

    def make(*, bound: bool = False, caller: Caller | None = None, **spec: Any) -> Record:
        values: dict[str, Any] = {"name": "build", "pool": PoolName("default"), "script": "make"}
        offer = JobOffer(
            JobKey("dispatch", "abc"),
            JobSpec(**(values | spec)),
            caller or Caller("https://ci.example", "repo:acme/shop", {"repository": "acme/shop"}),
        )
        job = offer.key.id
        name = runner_name(job)
        facts: list[Any] = [JobOffered(offer)]
        if bound:
            facts += [
                JobAdmitted(Decision("d", Stage.ADMISSION, Verdict.ALLOW)),
                ProvisionStarted(name, "digest"),
                RunnerCreated(name, "uid-1"),
                RunnerBound(name, "uid-1", EgressProof(("x",))),
            ]
        return fold([Fact(job, START + i, event) for i, event in enumerate(facts)])

    return make


@pytest.fixture
def write_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a small good bundle, changed by `files` (path to text, None to leave the file out)."""

    def write(files: dict[str, str | None] | None = None) -> Path:
        content: dict[str, str | None] = {
            "decision.rego": MINIMAL,
            "decision_test.rego": MINIMAL_TEST,
            "data.json": '{"names": ["build"]}',
        }
        content |= files or {}
        folder = tmp_path / "bundle"
        folder.mkdir(exist_ok=True)
        for path, text in content.items():
            target = folder / path
            target.unlink(missing_ok=True)
            if text is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        return folder

    return write


MINIMAL = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "nothing applies"}]}

decision := {"allow": true} if input.job.name in data.names
"""

MINIMAL_TEST = """package orchestrator_test

import data.orchestrator

test_allow if orchestrator.decision.allow == true with input as {"job": {"name": "build"}}

test_deny if orchestrator.decision.allow == false with input as {"job": {"name": "other"}}
"""


@pytest.fixture
def good_document() -> Callable[[str], dict[str, Any]]:
    """An input that the default bundle's rules for `staging` or `prod` are satisfied by."""

    def make(environment: str) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "stage": "admission",
                "time": "2026-11-22T10:00:00.000000000Z",
                "job": {"id": "dispatch.abc.1", "source": "dispatch", "attempt": 1},
                "caller": {
                    "id": "0123456789abcdef",
                    "issuer": "https://ci.example",
                    "subject": "repo:acme/shop",
                    "facts": {"repository": "acme/shop", "repository_id": "42"},
                },
                "pool": {"name": "p", "trust_tier": "protected", "isolation": "bubblewrap"},
                "runner": None,
                "request": {
                    "audience": "",
                    "deployment_environment": environment,
                    "artifact_digest": DIGEST,
                    "ticket": samples.TICKET["id"],
                    "secrets": [],
                },
                "artifact": dict(GOOD_EVIDENCE),
                "approvals": [samples.APPROVAL],
                "exceptions": [],
                "source": samples.SOURCE,
                "ticket": samples.TICKET,
                "credentials": {"workload_identity": True, "static_secrets": 0, "secrets": []},
                "workload": None,
                "claimed": {"name": "deploy"},
            }
        )

    return make
