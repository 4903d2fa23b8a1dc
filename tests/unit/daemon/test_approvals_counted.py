"""Between policy and whoever asks: uses are durable first, told once at least, and refused by name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.daemon.promotion.approval_desk import ApprovalDesk
from orchestrator.daemon.promotion.approvals import Approvals
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import TryAgainError
from orchestrator.evidence.approvals.book import Book, Taken
from orchestrator.evidence.approvals.judging import Limits
from orchestrator.lifecycle.excepted import exception_facts
from orchestrator.model.decision import Decision, Reason, Stage, Verdict, Waiver
from orchestrator.model.events import AlarmRaised, Event, ExceptionUsed
from orchestrator.model.job import JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import Record
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.lookups import Question
from orchestrator.settings.approvals import ApprovalsSettings
from orchestrator.testing.approvals import (
    DEPLOYER,
    DIGEST,
    EVERYBODY,
    HOUR,
    KEYS,
    OTHER_DIGEST,
    START,
    approval,
    exception,
    id_of,
    signed,
)
from orchestrator.testing.clock import SteppedClock

POOL = Pool(PoolName("default"), "memory", TrustTier.STANDARD, 1, "memory", "none")
AUDIENCE = "https://prod.example"
ELSEWHERE = exception(artifact_digest=OTHER_DIGEST)


@dataclass
class Notes:
    """An engine that takes facts of jobs, unless its journal is away."""

    away: bool = False
    facts: list[tuple[str, Event]] = field(default_factory=list)

    async def note(self, job_id: str, *events: Event) -> None:
        if self.away:
            raise TryAgainError("no journal", reason="journal_unavailable")
        self.facts += [(job_id, event) for event in events]


@dataclass
class Answers:
    """A policy that answers as it is told to."""

    waivers: tuple[Waiver, ...]
    verdict: Verdict = Verdict.ALLOW
    number: int = 0

    def _decision(self, stage: Stage) -> Decision:
        self.number += 1
        reasons = () if self.verdict is Verdict.ALLOW else (Reason("scan_missing", "no scan"),)
        return Decision(f"d{self.number}", stage, self.verdict, reasons, waivers=self.waivers)

    async def admit(self, _record: Record, _pool: Pool) -> Decision:
        return self._decision(Stage.ADMISSION)

    async def exchange(self, _record: Record, _pool: Pool, _audience: str) -> Decision:
        return self._decision(Stage.EXCHANGE)


@dataclass
class Site:
    approvals: Approvals
    notes: Notes
    clock: SteppedClock


async def _unknown(_digest: str) -> None:
    return None


async def _agreed(_taken: Taken) -> None:
    return None


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    clock, notes = SteppedClock(START), Notes()
    book = await Book.open(tmp_path / "approvals.db", EVERYBODY, Limits(), KEYS["daemon"], START)
    desk = ApprovalDesk(ApprovalsSettings(), book, None, _unknown, AuditNotes(None), clock)
    engine: Any = notes
    yield Site(Approvals(book, desk, clock, lambda: engine), notes, clock)
    book.close()


async def give(site: Site, *predicates: Any) -> None:
    for one in predicates:
        await site.approvals.book.take(signed(one, "alice", "bob", "carol"), "test", START, _agreed)


def job(number: int = 1, environment: str = "prod") -> Record:
    spec = JobSpec("deploy", POOL.name, "true", deployment_environment=environment, artifact_digest=DIGEST)
    return Record(JobOffer(JobKey("dispatch", str(number)), spec, DEPLOYER), START)


def waiver(predicate: Any, *codes: str) -> Waiver:
    return Waiver(id_of(predicate), codes or ("scan_missing",))


async def test_a_decision_that_stands_on_the_rules_alone_passes(site):
    policy = site.approvals.guard(Answers(()))
    assert await policy.admit(job(), POOL) == Decision("d1", Stage.ADMISSION, Verdict.ALLOW)
    assert (await policy.exchange(job(), POOL, AUDIENCE)).allowed
    assert site.notes.facts == []


async def test_a_denial_uses_nothing(site):
    await give(site, exception())
    policy = site.approvals.guard(Answers((waiver(exception()),), Verdict.DENY))
    assert (await policy.admit(job(), POOL)).verdict is Verdict.DENY
    assert site.approvals.book.ledger.uses_of(id_of(exception())) == []


async def test_an_admission_brings_its_facts_along(site):
    await give(site, exception())
    decision = await site.approvals.guard(Answers((waiver(exception()),))).admit(job(), POOL)
    assert decision.waivers == (
        Waiver(id_of(exception()), ("scan_missing",), "break_glass", ("alice", "bob"), number=1),
    )
    used, alarm = exception_facts(decision)
    assert used == ExceptionUsed(id_of(exception()), "break_glass", ("scan_missing",), "d1", ("alice", "bob"), number=1)
    assert isinstance(alarm, AlarmRaised)
    assert id_of(exception()) in alarm.detail
    assert site.notes.facts == []


async def test_an_exchange_is_told_once_for_each_audience(site):
    await give(site, exception())
    policy = site.approvals.guard(Answers((waiver(exception()),)))
    for audience in (AUDIENCE, AUDIENCE, "https://other.example"):
        assert (await policy.exchange(job(), POOL, audience)).allowed
    assert [type(event) for _, event in site.notes.facts] == [ExceptionUsed, AlarmRaised] * 2
    assert {job_id for job_id, _ in site.notes.facts} == {"dispatch.1.1"}


async def test_what_a_later_exchange_sets_aside_besides_is_told_too(site):
    """It is the same use; but that there is no ticket any more was in nobody's record."""
    more = exception(waives=("scan_missing", "ticket_missing"))
    await give(site, more)
    policy = Answers((waiver(more),))
    assert (await site.approvals.guard(policy).exchange(job(), POOL, AUDIENCE)).allowed
    policy.waivers = (waiver(more, "scan_missing"), waiver(more, "ticket_missing"))
    decision = await site.approvals.guard(policy).exchange(job(), POOL, AUDIENCE)
    assert [(one.codes, one.number) for one in decision.waivers] == [(("scan_missing", "ticket_missing"), 1)]
    told = [event.waived for _, event in site.notes.facts if isinstance(event, ExceptionUsed)]
    assert told == [("scan_missing",), ("scan_missing", "ticket_missing")]


async def test_no_part_of_what_an_exception_sets_aside_goes_unchecked(site):
    await give(site, exception())
    policy = site.approvals.guard(Answers((waiver(exception(), "artifact_unsigned"), waiver(exception()))))
    assert (await policy.admit(job(), POOL)).verdict is Verdict.DENY


async def test_what_the_journal_did_not_take_is_told_the_next_time(site):
    """As after a crash between the use and its fact: no use is ever without a word in the job's journal."""
    await give(site, exception())
    policy = site.approvals.guard(Answers((waiver(exception()),)))
    site.notes.away = True
    decision = await policy.exchange(job(), POOL, AUDIENCE)
    assert decision.verdict is Verdict.ERROR
    assert decision.id != "d1"  # policy's own answer was another
    assert [reason.code for reason in decision.reasons] == ["journal_unavailable"]
    assert decision.waivers == ()
    site.notes.away = False
    decision = await policy.exchange(job(), POOL, AUDIENCE)
    assert decision.allowed
    assert [event.number for _, event in site.notes.facts if isinstance(event, ExceptionUsed)] == [1]


@pytest.mark.parametrize(
    ("given", "used", "number", "reason"),
    [
        (exception(), exception(reason="another"), 1, "approval_unknown"),
        (exception(), exception(), 2, "exception_exhausted"),
        (
            exception(artifact_digest=OTHER_DIGEST),
            exception(artifact_digest=OTHER_DIGEST),
            1,
            "approval_other_artifact",
        ),
        (exception(environment="prod", job="dispatch.9.1"), exception(job="dispatch.9.1"), 1, "approval_other_job"),
    ],
)
async def test_an_answer_on_what_does_not_hold_is_refused(site, given, used, number, reason):
    """Whatever the bundle says: it may have a mistake, or have been asked a moment before."""
    await give(site, given)
    policy = site.approvals.guard(Answers((waiver(used),)))
    for one in range(1, number):
        assert (await policy.admit(job(one), POOL)).allowed
    decision = await policy.admit(job(number), POOL)
    assert decision.verdict is Verdict.DENY
    assert [one.code for one in decision.reasons] == [reason]
    assert exception_facts(decision) == ()


async def test_codes_that_it_does_not_waive(site):
    await give(site, exception())
    policy = site.approvals.guard(Answers((waiver(exception(), "scan_missing", "artifact_unsigned"),)))
    assert [one.code for one in (await policy.admit(job(), POOL)).reasons] == ["approval_not_permitted"]


async def test_it_expires_between_the_question_and_the_use(site):
    await give(site, exception())
    await site.clock.advance(HOUR / 1e9)
    policy = site.approvals.guard(Answers((waiver(exception()),)))
    assert [one.code for one in (await policy.exchange(job(), POOL, AUDIENCE)).reasons] == ["approval_expired"]


async def test_policy_is_told_what_bears_on_the_job(site):
    await give(site, exception(), approval(), exception(reason="another", environment="staging"))
    question = Question(job(), POOL, START, "prod", DIGEST, None)
    consent = await site.approvals.consent(question)
    assert [one["approver"] for one in consent.approvals] == ["alice", "bob"]
    assert [one["id"] for one in consent.exceptions] == [id_of(exception())]
    late = Question(job(), POOL, START + HOUR, "prod", DIGEST, None)
    assert (await site.approvals.consent(late)).exceptions == []


async def test_a_clusters_replicas_are_one_use(site):
    await give(site, exception())
    enquiry = Enquiry(Stage.DEPLOYMENT, "prod", DIGEST)
    decision = Decision("d", Stage.DEPLOYMENT, Verdict.ALLOW, waivers=(waiver(exception()),))
    for _ in range(3):
        question = Question(enquiry.record(START), None, START, "prod", DIGEST, None)
        assert [one["uses"] for one in (await site.approvals.consent(question)).exceptions] == [0]
        assert (await site.approvals.spend(enquiry, decision)).allowed
    assert [use.number for use in site.approvals.book.ledger.uses_of(id_of(exception()))] == [1]
    # A job is another use, and there is none left for it.
    assert (await site.approvals.consent(Question(job(), POOL, START, "prod", DIGEST, None))).exceptions == []
