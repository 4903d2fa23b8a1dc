"""The judge of receipts: reads a job's facts and says what its receipt gets wrong. Shares no code with the makers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import OrchestratorError
from orchestrator.evidence.receipts.document import Receipt
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId


def wrong_receipts(history: Mapping[JobId, Sequence[Fact]], keys: Mapping[str, ec.EllipticCurvePublicKey]) -> list[str]:
    """Every way in which receipts and facts disagree: each finished job must have exactly one, no other job any."""
    return [f"{job_id}: {problem}" for job_id, facts in history.items() for problem in _problems(facts, keys)]


def lacking(
    signed: Sequence[tuple[JobId, str]],
    history: Mapping[JobId, Sequence[Fact]],
    keys: Mapping[str, ec.EllipticCurvePublicKey],
) -> list[str]:
    """Tokens that went out, by job and `jti`, and are not on the receipt of their finished job."""
    listed = {
        (job_id, token.jti)
        for job_id, facts in history.items()
        for fact in facts
        if isinstance(fact.event, events.ReceiptSigned)
        for token in open_receipt(envelope_of(fact.event), keys)[0].tokens
    }
    return [f"{job_id}: token {jti} is not on its receipt" for job_id, jti in signed if (job_id, jti) not in listed]


def _problems(facts: Sequence[Fact], keys: Mapping[str, ec.EllipticCurvePublicKey]) -> Iterable[str]:
    signed = [fact for fact in facts if isinstance(fact.event, events.ReceiptSigned)]
    finished = [fact for fact in facts if isinstance(fact.event, events.JobFinished)]
    if len(signed) != len(finished):
        yield f"{len(signed)} receipts of {len(finished)} ends"
        return
    for fact in signed:
        assert isinstance(fact.event, events.ReceiptSigned)
        try:
            receipt, digest = open_receipt(envelope_of(fact.event), keys)
        except OrchestratorError as error:
            yield f"not opened: {error.reason}"
            continue
        if digest != fact.event.digest:
            yield "another digest"
        if fact.at_ns != finished[0].at_ns:
            yield "not of one commit with the finish"
        yield from _compare(receipt, facts)


def _compare(receipt: Receipt, facts: Sequence[Fact]) -> Iterable[str]:
    last = receipt.journal.last_seq
    told = [fact for fact in facts if fact.seq <= last]
    if (receipt.journal.first_seq, receipt.journal.facts) != (facts[0].seq, len(told)):
        yield f"speaks of {receipt.journal}, and there are {len(told)} facts up to {last}"
    wanted = _told(told, facts)
    found = _found(receipt)
    for name, value in wanted.items():
        if found[name] != value:
            yield f"{name} is {found[name]!r}, by the facts {value!r}"
    # What came while it was made is nothing that it lists.
    for fact in facts:
        if fact.seq > last and isinstance(fact.event, _LISTED):
            yield f"{type(fact.event).__name__} after the receipt was made"
    if receipt.runner is not None:
        times = (receipt.times.ended, receipt.runner.deletion_accepted, receipt.runner.absent, receipt.times.sealed)
        if "" in times or list(times) != sorted(times):
            yield f"end, deletion, absence and seal are out of order: {times}"
        if not receipt.runner.seen_by or receipt.refused is None or receipt.refused.since != receipt.times.ended:
            yield "nobody looked"


_LISTED = (
    events.TokenIssued,
    events.RunnerCreated,
    events.RunnerBound,
    events.RunnerDeleted,
    events.JobEnded,
    events.ExchangeDecided,
)


def _told(told: Sequence[Fact], facts: Sequence[Fact]) -> dict[str, object]:
    """What the receipt has to say, by the facts."""
    uids: list[str] = []
    bound, ended, result, tokens, decisions, deleted = "", "", "", [], [], ""
    for fact in told:
        match fact.event:
            case events.RunnerCreated(uid=uid) if uid not in uids:
                uids.append(uid)
            case events.RunnerBound(uid=uid):
                bound = uid
                if uid not in uids:
                    uids.append(uid)
            case events.JobEnded(outcome):
                ended, result = _moment(fact.at_ns), outcome.reason.value
            case events.RunnerDeleted():
                deleted = _moment(fact.at_ns)
            case events.TokenIssued(jti=jti, audience=audience):
                tokens.append((jti, audience))
            case events.TokenRefused(jti=jti) if jti:  # a third party was asked for it, and made none
                tokens = [token for token in tokens if token[0] != jti]
            case events.JobAdmitted(decision) | events.JobRefused(decision):
                decisions.append(decision.id)
            case events.PlatformJobNamed(decision=decision) if decision.allowed:
                decisions.append(decision.id)
            case events.ExchangeDecided(decision=decision):
                decisions.append(decision.id)
            case _:
                pass
    alarms = {fact.event.alarm for fact in facts if isinstance(fact.event, events.AlarmRaised)}
    return {
        "uids": uids,
        "bound": [bound] if bound else [],
        "ended": ended,
        "reason": result,
        "tokens": tokens,
        "decisions": decisions,
        "deleted": deleted,
        "restarts": sum(isinstance(fact.event, events.DaemonRestarted) for fact in told),
        "alarms": alarms,
    }


def _found(receipt: Receipt) -> dict[str, object]:
    uses = receipt.runner.uses if receipt.runner else []
    return {
        "uids": [use.uid for use in uses],
        "bound": [use.uid for use in uses if use.bound],
        "ended": receipt.times.ended,
        "reason": receipt.outcome.reason,
        "tokens": [(token.jti, token.audience) for token in receipt.tokens],
        "decisions": [decision.id for decision in receipt.decisions],
        "deleted": receipt.runner.deletion_accepted if receipt.runner else "",
        "restarts": receipt.daemon.restarts,
        "alarms": {alarm.alarm for alarm in receipt.alarms},
    }


def _moment(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{at_ns % 10**9 // 1000:06d}Z"
