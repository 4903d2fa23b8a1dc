"""The receipt of one job, from its record, its story and what was seen when it was closed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.evidence.receipts import document as parts
from orchestrator.evidence.receipts.document import UNKNOWN, Receipt, moment
from orchestrator.evidence.receipts.story import Story, SummedTokens
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event
from orchestrator.model.record import Record

_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Ending:
    """What was seen when the job was closed, besides its facts. Times are Unix nanoseconds.

    `absent_ns` is when a look found nothing of the runner (0 without a runner) and `seen_by` who looked;
    `checked_ns` when its identity was seen to be refused (0 likewise); `notes` become facts together with the receipt.
    """

    sealed_ns: int
    absent_ns: int = 0
    seen_by: str = ""
    checked_ns: int = 0
    access: Sequence[Withdrawn] = ()
    notes: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Signer:
    """Who tells: the daemon's public URL, its version, and its bound for teardowns in seconds."""

    url: str
    version: str
    bound_seconds: float


def receipt_of(record: Record, story: Story, ending: Ending, signer: Signer, trace_id: str) -> Receipt:
    """The receipt of an ended job whose runner was seen to be gone."""
    story = story.with_notes(ending.notes, ending.sealed_ns)
    offer, outcome = record.offer, record.outcome
    assert outcome is not None, "a receipt is for an ended job"
    return Receipt(
        job=parts.JobPart(
            id=record.id,
            source=offer.key.source,
            attempt=offer.key.attempt,
            pool=offer.spec.pool,
            caller=offer.caller.id,
            trace_id=trace_id,
            platform_key=record.platform_key,
        ),
        outcome=parts.OutcomePart(
            result=outcome.result.value,
            reason=outcome.reason.value,
            exit_code=outcome.exit_code,
            cancelled_by=record.cancel.by if record.cancel else "",
        ),
        times=parts.TimesPart(
            offered=moment(record.offered_at_ns),
            ended=moment(record.ended_at_ns),
            sealed=moment(ending.sealed_ns),
            admitted=moment(record.admitted_at_ns),
            bound=moment(record.bound_at_ns),
            named=moment(record.named_at_ns),
        ),
        bound_seconds=signer.bound_seconds,
        journal=parts.JournalPart(first_seq=story.first_seq, last_seq=story.last_seq, facts=story.count),
        daemon=parts.DaemonPart(url=signer.url, version=signer.version, restarts=story.restarts),
        runner=_runner(record, story, ending),
        access=[parts.AccessPart(what=one.what, how=one.how) for one in ending.access if not one.left],
        refused=_refused(record, ending),
        tokens=[_token(token, story.revoked, signer.url) for token in story.tokens],
        more_tokens=[_more(*key, more) for key, more in story.more_tokens.items()],
        more_revoked=story.more_revoked,
        token_refusals=story.token_refusals,
        decisions=[_decision(audience, decision) for audience, decision in story.decisions],
        more_decisions=story.more_decisions,
        egress=_egress_part(story),
        log=_log(story.log),
        artifacts=story.artifacts,
        attestations=story.attestations,
        summaries=[
            parts.SummaryPart(
                digest=one.digest, artifact=one.artifact_digest, environment=one.environment, decision=one.decision_id
            )
            for one in story.summaries
        ],
        more_summaries=story.more_summaries,
        alarms=[
            parts.AlarmPart(alarm=name, first=moment(alarm.first_ns), count=alarm.count)
            for name, alarm in story.alarms.items()
        ],
        leftovers=[f"{one.what} ({one.how})" for one in ending.access if one.left],
    )


def _runner(record: Record, story: Story, ending: Ending) -> parts.RunnerPart | None:
    if record.runner is None:
        return None
    uses = [
        parts.RunnerUse(
            uid=use.uid,
            created=moment(use.created_ns),
            bound=moment(use.bound_ns),
            vanished=moment(use.vanished_ns),
        )
        for use in story.uses
    ]
    return parts.RunnerPart(
        name=record.runner,
        backend=record.backend,
        uses=uses,
        deletion_accepted=moment(story.deleted_ns),
        absent=moment(ending.absent_ns),
        seen_by=ending.seen_by,
    )


def _refused(record: Record, ending: Ending) -> parts.RefusalPart | None:
    if not ending.checked_ns:
        return None
    return parts.RefusalPart(since=moment(record.ended_at_ns), checked=moment(ending.checked_ns))


def _token(token: events.TokenIssued, revoked: Mapping[str, int], url: str) -> parts.TokenPart:
    return parts.TokenPart(
        jti=token.jti,
        audience=token.audience,
        issuer=token.issuer or url,
        expires=moment(token.expires_at * _SECOND),
        session_ends=moment(token.session_expires_at * _SECOND) or UNKNOWN,
        kind=token.kind,
        role=token.role,
        rule=token.rule,
        trust=token.trust_digest,
        target=token.target,
        revoked=moment(revoked.get(token.jti, 0)),
    )


def _more(kind: str, audience: str, more: SummedTokens) -> parts.TokenSum:
    return parts.TokenSum(
        audience=audience,
        kind=kind,
        count=more.count,
        expire=moment(more.expire * _SECOND),
        sessions_end=UNKNOWN if more.unknown else moment(more.sessions_end * _SECOND),
    )


def _decision(audience: str, decision: Decision) -> parts.DecisionPart:
    return parts.DecisionPart(
        id=decision.id,
        stage=decision.stage.value,
        verdict=decision.verdict.value,
        input=decision.input_digest,
        bundle=decision.bundle_digest,
        audience=audience,
        exceptions=[waiver.exception for waiver in decision.waivers],
    )


def _egress_part(story: Story) -> parts.EgressPart | None:
    if not story.rules and not story.refused:
        return None
    allowed = [
        parts.RuleUse(rule=name, connections=rule.connections, bytes_up=rule.bytes_up, bytes_down=rule.bytes_down)
        for name, rule in story.rules.items()
    ]
    return parts.EgressPart(allowed=allowed, refused=story.refused, probes=story.probes)


def _log(closed: events.LogClosed | None) -> parts.LogPart | None:
    if closed is None:
        return None
    return parts.LogPart(
        bytes_kept=closed.bytes_kept, bytes_dropped=closed.bytes_dropped, secrets_masked=closed.secrets_masked
    )
