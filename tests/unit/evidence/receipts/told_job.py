"""A job with everything that a receipt tells of, by its facts."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.evidence.receipts.document import Receipt
from orchestrator.evidence.receipts.making import Ending, Signer, receipt_of
from orchestrator.evidence.receipts.story import Story
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model import events as e
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.record import fold
from orchestrator.model.runner import RunnerName

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND
RUNNER = RunnerName("runner-1")
SIGNER = Signer("https://ci.example", "0.1.0", 60)
ADMITTED = Decision("d1", Stage.ADMISSION, Verdict.ALLOW, input_digest="sha256:1", bundle_digest="sha256:2")
EXCHANGED = Decision("d2", Stage.EXCHANGE, Verdict.ALLOW, input_digest="sha256:3", bundle_digest="sha256:2")
ACCESS = (Withdrawn("runner_api_listener", "closed"), Withdrawn("egress_gateway", "closed"))


def token(jti: str = "t1", audience: str = "sts.example", **more: object) -> e.TokenIssued:
    return e.TokenIssued(jti, audience, "secret-subject", "RS256", "k", 1_800_000_000, 1_800_000_300, **more)


def offer() -> JobOffer:
    spec = JobSpec(
        "secret-name", PoolName("default"), "secret-script", {"NAME": "secret-value"}, pipeline="secret-line"
    )
    return JobOffer(JobKey("dispatch", "one"), spec, Caller("https://issuer.example", "secret-caller"))


BEFORE: tuple[Event, ...] = (
    e.JobOffered(offer()),
    e.JobAdmitted(ADMITTED),
    e.ProvisionStarted(RUNNER, "spec", 1, "sandbox"),
    e.RunnerCreated(RUNNER, "uid-0"),
    e.RunnerVanished(RUNNER, "gone"),
    e.ProvisionStarted(RUNNER, "spec", 2, "sandbox"),
    e.RunnerCreated(RUNNER, "uid-1"),
    e.EgressDecided("canary.example", 443, "tls", False, "", "host_not_listed", canary=True),
    e.RunnerBound(RUNNER, "uid-1", EgressProof(("dns",))),
)
AFTER: tuple[Event, ...] = (
    e.JobEnded(Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "secret-message", 3)),
    e.RunnerDeleted(RUNNER),
)


def facts_of(*notes: Event) -> list[Fact]:
    happened = (*BEFORE, *notes, *AFTER)
    return [Fact(offer().key.id, START + n * SECOND, event, n + 101) for n, event in enumerate(happened)]


def ending_of(facts: list[Fact], **changes: object) -> Ending:
    last = facts[-1].at_ns
    usual = Ending(last + 2 * SECOND, last + SECOND, "launcher", last + 2 * SECOND, ACCESS)
    return replace(usual, **changes)  # type: ignore[arg-type]


def told(*notes: Event, **changes: object) -> Receipt:
    """The receipt of this job with `notes` while it ran, closed as in `ending_of`."""
    facts = facts_of(*notes)
    return receipt_of(fold(facts), Story.of(facts), ending_of(facts, **changes), SIGNER, "ab" * 16)
