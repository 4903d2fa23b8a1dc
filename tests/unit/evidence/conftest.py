"""A job that built something, told by its facts."""

from __future__ import annotations

import pytest

from orchestrator.evidence.provenance import Builder
from orchestrator.evidence.signing_key import EvidenceKey, generate_evidence_key
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Fact
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.runner import RunnerName

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
WHEEL = "sha256:" + "a" * 64
SBOM = "sha256:" + "b" * 64
CYCLONEDX = "application/vnd.cyclonedx+json"


@pytest.fixture
def pool() -> Pool:
    return Pool(PoolName("default"), "sandbox", TrustTier.STANDARD, 4, "host-toolchain", "bubblewrap")


@pytest.fixture
def builder() -> Builder:
    return Builder("https://ci.example", "0.1.0")


@pytest.fixture
def key() -> EvidenceKey:
    return generate_evidence_key()


@pytest.fixture
def offer() -> JobOffer:
    spec = JobSpec(
        "build", PoolName("default"), "make secret-script", {"VARIABLE": "its-value"}, claimed={"signed": "true"}
    )
    facts = {"repository": "acme/app", "ref": "refs/heads/main", "sha": "c" * 40, "actor": "someone"}
    return JobOffer(JobKey("dispatch", "build1"), spec, Caller("https://issuer.example", "person@acme", facts))


@pytest.fixture
def story(offer):
    def tell(*notes: events.Event, result: Result = Result.SUCCESS) -> list[Fact]:
        decision = Decision("d1", Stage.ADMISSION, Verdict.ALLOW, input_digest="sha256:1", bundle_digest="sha256:2")
        name = RunnerName("runner-1")
        reason = EndReason.COMPLETED if result is Result.SUCCESS else EndReason.EXIT_NONZERO
        happened = [
            events.JobOffered(offer),
            events.JobAdmitted(decision),
            events.ProvisionStarted(name, "spec"),
            events.RunnerCreated(name, "uid-1"),
            events.RunnerBound(name, "uid-1", EgressProof(("dns",))),
            *notes,
            events.JobEnded(Outcome(result, reason, "done", 0)),
        ]
        return [Fact(offer.key.id, START + i * SECOND, event, i + 1) for i, event in enumerate(happened)]

    return tell


@pytest.fixture
def wheel() -> events.ArtifactReported:
    return events.ArtifactReported("app.whl", WHEEL, "application/zip", 100)


@pytest.fixture
def sbom() -> events.ArtifactReported:
    return events.ArtifactReported("app.cdx.json", SBOM, CYCLONEDX, 50)
