"""Which facts are told to other systems, and what is told of each. Pure.

A notice holds ids, names and words of ours. A job's script, its environment and what it claims of itself never get
in; `sentence` is the one text for people, and a message carries it only where its endpoint asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Fact, WaitReason
from orchestrator.model.job import JobId, JobOffer

MAX_TEXT = 256
"""Characters of one value."""
MAX_SENTENCE = 1000
"""Characters of the text for people."""
MAX_LIST = 32
"""Values of one list."""

Value = str | int | bool | Sequence[str] | None


class NoticeType(StrEnum):
    """What can be told. The words are those of the messages, of the settings and of the documentation."""

    JOB_QUEUED = "job.queued"
    JOB_ADMITTED = "job.admitted"
    JOB_WAITING = "job.waiting"
    JOB_STARTED = "job.started"
    JOB_CANCEL_REQUESTED = "job.cancel_requested"
    JOB_ENDED = "job.ended"
    JOB_FINISHED = "job.finished"
    RUNNER_CREATED = "runner.created"
    RUNNER_LOST = "runner.lost"
    RUNNER_DELETED = "runner.deleted"
    POLICY_DENIED = "policy.denied"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 -- a word
    TOKEN_REFUSED = "token.refused"  # noqa: S105 -- a word
    EGRESS_DENIED = "egress.denied"
    EXCEPTION_USED = "exception.used"
    RECEIPT_SIGNED = "receipt.signed"
    ALARM_RAISED = "alarm.raised"


@dataclass(frozen=True, slots=True)
class JobContext:
    """What is told of a job with each notice. `run_id` is the platform's number of the run that the job belongs to, and
    empty where the platform vouches for none; `result` and `reason` are empty until the job's end."""

    id: JobId
    name: str
    pool: str
    source: str
    pipeline: str
    attempt: int
    offered_at_ns: int
    environment: str = ""
    run_id: str = ""
    by_platform: bool = False
    runner: str = ""
    result: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened. `seq` is its fact's place in the journal, `at_ns` Unix time; `subject` names what it
    happened to."""

    type: NoticeType
    seq: int
    at_ns: int
    job: JobContext
    subject: str
    data: Mapping[str, Value] = field(default_factory=dict)
    sentence: str = ""


def begin(job_id: JobId, offered_at_ns: int, offer: JobOffer) -> JobContext:
    """The context that an offer gives."""
    spec = offer.spec
    return JobContext(
        id=job_id,
        name=spec.name,
        pool=spec.pool,
        source=offer.key.source,
        pipeline=spec.pipeline,
        attempt=offer.key.attempt,
        offered_at_ns=offered_at_ns,
        environment=spec.deployment_environment,
        run_id=str(offer.caller.facts.get("run_id", "")),
        by_platform=spec.awaits_platform_job,
    )


def follow(job: JobContext, fact: Fact) -> JobContext:
    """The context after one more fact of the job."""
    match fact.event:
        case events.ProvisionStarted(runner=runner):
            return replace(job, runner=runner)
        case events.PlatformJobNamed(job=named):
            return replace(
                job,
                name=named.name,
                pipeline=named.pipeline,
                environment=named.deployment_environment,
                run_id=str(named.caller.facts.get("run_id", "")),
            )
        case events.JobEnded(outcome):
            return replace(job, result=outcome.result.value, reason=outcome.reason.value)
        case _:
            return job


def context_of(facts: Sequence[Fact]) -> JobContext | None:
    """The context after all of a job's facts; None when they do not begin with its offer."""
    if not facts or not isinstance(facts[0].event, events.JobOffered):
        return None
    job = begin(facts[0].job_id, facts[0].at_ns, facts[0].event.offer)
    for fact in facts[1:]:
        job = follow(job, fact)
    return job


def notice_of(fact: Fact, job: JobContext) -> Notice | None:
    """What is told of a fact; None for most. `job` is the context after it."""
    told = _told_of_job(fact.event, job, fact.at_ns) or _told_of_access(fact.event, job)
    if told is None:
        return None
    return Notice(told.type, fact.seq, fact.at_ns, job, told.subject or job.id, told.data, told.sentence)


@dataclass(frozen=True, slots=True)
class _Told:
    type: NoticeType
    data: Mapping[str, Value] = field(default_factory=dict)
    sentence: str = ""
    subject: str = ""


def _told_of_job(event: events.Event, job: JobContext, at_ns: int) -> _Told | None:
    """A line for each event of a job's and a runner's life."""
    match event:
        case events.JobOffered():
            return _Told(NoticeType.JOB_QUEUED)
        case events.JobAdmitted(decision):
            return _Told(NoticeType.JOB_ADMITTED, {"decision_id": decision.id})
        case events.JobWaited(reason, detail) if reason is not WaitReason.RUNNER_STARTING:
            return _Told(NoticeType.JOB_WAITING, {"reason": reason.value}, detail)
        case events.RunnerBound(runner=runner) if not job.by_platform:
            return _Told(NoticeType.JOB_STARTED, {"runner": runner})
        case events.PlatformJobNamed(job=named, decision=decision) if decision.allowed:
            return _Told(NoticeType.JOB_STARTED, {"runner": job.runner, "platform_job": named.key})
        case events.JobCancelRequested(by, reason):
            return _Told(NoticeType.JOB_CANCEL_REQUESTED, {"by": by}, reason)
        case events.JobEnded(outcome):
            data: dict[str, Value] = {"result": outcome.result.value, "reason": outcome.reason.value}
            data |= {"exit_code": outcome.exit_code, "duration_ms": max(at_ns - job.offered_at_ns, 0) // 1_000_000}
            return _Told(NoticeType.JOB_ENDED, data, outcome.message)
        case events.JobFinished(leftovers):
            data = {"result": job.result, "reason": job.reason, "leftovers": len(leftovers)}
            return _Told(NoticeType.JOB_FINISHED, data)
        case events.RunnerCreated(runner=runner):
            return _Told(NoticeType.RUNNER_CREATED, {"runner": runner}, subject=runner)
        case events.RunnerVanished(runner, detail):
            return _Told(NoticeType.RUNNER_LOST, {"runner": runner}, detail, runner)
        case events.RunnerDeleted(runner):
            return _Told(NoticeType.RUNNER_DELETED, {"runner": runner}, subject=runner)
        case _:
            return None


def _told_of_access(event: events.Event, job: JobContext) -> _Told | None:
    """A line for each event of policy, tokens, egress and evidence."""
    data: dict[str, Value]
    match event:
        case events.JobRefused(decision):
            return _denied(decision, {})
        case events.ExchangeDecided(audience, decision) if not decision.allowed:
            return _denied(decision, {"audience": audience})
        case events.TokenIssued():
            data = {"jti": event.jti, "audience": event.audience, "kind": event.kind, "expires_at": event.expires_at}
            return _Told(NoticeType.TOKEN_ISSUED, data, subject=event.jti)
        case events.TokenRefused(audience, reason, detail=detail):
            return _Told(NoticeType.TOKEN_REFUSED, {"audience": audience, "reason": reason}, detail)
        case events.EgressDecided(allowed=False, canary=False):
            data = {"host": event.host, "port": event.port, "reason": event.reason, "connections": event.connections}
            return _Told(NoticeType.EGRESS_DENIED, data)
        case events.ExceptionUsed():
            data = {"exception": event.exception, "kind": event.kind, "waived": event.waived, "number": event.number}
            return _Told(NoticeType.EXCEPTION_USED, data | {"approvers": event.approvers}, subject=event.exception)
        case events.ReceiptSigned(digest=digest):
            return _Told(NoticeType.RECEIPT_SIGNED, {"digest": digest}, subject=digest)
        case events.AlarmRaised(alarm, detail):
            return _Told(NoticeType.ALARM_RAISED, {"alarm": alarm}, detail)
        case _:
            return None


def _denied(decision: Decision, more: Mapping[str, Value]) -> _Told:
    data: dict[str, Value] = {"stage": decision.stage.value, "verdict": decision.verdict.value}
    data |= {"codes": tuple(reason.code for reason in decision.reasons), "decision_id": decision.id, **more}
    return _Told(NoticeType.POLICY_DENIED, data, decision.explain(), decision.id)


def clean(notice: Notice, mask: Callable[[str], str], *, sentence: bool) -> Notice:
    """The notice as it may leave: each text that somebody else can have chosen masked and cut, and with `sentence` the
    text for people too."""

    def text(value: str, limit: int = MAX_TEXT) -> str:
        # Masked before it is cut: half a secret is found no more.
        masked = mask(value) if value else value
        return masked if len(masked) <= limit else masked[: limit - 1] + "…"

    def plain(value: Value) -> Value:
        if isinstance(value, str):
            return text(value)
        return [text(one) for one in value[:MAX_LIST]] if isinstance(value, Sequence) else value

    job = notice.job
    job = replace(
        job,
        name=text(job.name),
        pipeline=text(job.pipeline),
        environment=text(job.environment),
        run_id=text(job.run_id),
    )
    return replace(
        notice,
        job=job,
        subject=text(notice.subject),
        data={name: plain(value) for name, value in notice.data.items()},
        sentence=text(notice.sentence, MAX_SENTENCE) if sentence else "",
    )
