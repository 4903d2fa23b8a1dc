"""What was decided, issued, reached and signed, of all jobs: facts as items of one list. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from orchestrator.model import events
from orchestrator.model.decision import Decision, Reason
from orchestrator.model.events import Event, Fact
from orchestrator.server.views import timestamp


class Kind(StrEnum):
    DECISION = "decision"
    TOKEN = "token"  # noqa: S105 -- a word
    EGRESS = "egress"
    RECEIPT = "receipt"
    ALARM = "alarm"


KINDS: Mapping[type[Event], Kind] = {
    events.JobAdmitted: Kind.DECISION,
    events.JobRefused: Kind.DECISION,
    events.PlatformJobNamed: Kind.DECISION,
    events.ExchangeDecided: Kind.DECISION,
    events.TokenIssued: Kind.TOKEN,
    events.TokenRefused: Kind.TOKEN,
    events.CredentialRevoked: Kind.TOKEN,
    events.EgressDecided: Kind.EGRESS,
    events.ReceiptSigned: Kind.RECEIPT,
    events.AlarmRaised: Kind.ALARM,
}
"""Facts that are activity."""


def events_of(kind: Kind | None) -> frozenset[type[Event]]:
    """The facts of one kind, or of all."""
    return frozenset(event for event, found in KINDS.items() if kind is None or found is kind)


def item_of(fact: Fact, job_name: str) -> dict[str, Any] | None:
    """One fact of `KINDS`; its fields are those of the event, under the names that the job's own page has. None for a
    decision that is told by the fact that follows."""
    if isinstance(fact.event, events.PlatformJobNamed) and not fact.event.decision.allowed:
        return None
    return {
        "seq": fact.seq,
        "at": timestamp(fact.at_ns),
        "job_id": fact.job_id,
        "job_name": job_name,
        "kind": KINDS[type(fact.event)].value,
        **_told(fact.event),
    }


def _told(event: Event) -> dict[str, Any]:
    match event:
        case events.JobAdmitted(decision) | events.JobRefused(decision) | events.PlatformJobNamed(decision=decision):
            return _decision(decision, "")
        case events.ExchangeDecided(audience, decision):
            return _decision(decision, audience)
        case events.TokenIssued() | events.TokenRefused() | events.CredentialRevoked():
            return _token(event)
        case events.EgressDecided():
            return {
                "host": event.host,
                "port": event.port,
                "protocol": event.protocol,
                "allowed": event.allowed,
                "rule": event.rule,
                "reason": event.reason,
                "bytes_up": event.bytes_up,
                "bytes_down": event.bytes_down,
                "canary": event.canary,
                "connections": event.connections,
            }
        case events.ReceiptSigned(digest=digest):
            return {"digest": digest}
        case events.AlarmRaised(alarm, detail):
            return {"alarm": alarm, "detail": detail}
        case _:
            return {}


def _decision(decision: Decision, audience: str) -> dict[str, Any]:
    return {
        "id": decision.id,
        "stage": decision.stage.value,
        "audience": audience,
        "verdict": decision.verdict.value,
        "reasons": _reasons(decision.reasons),
        "observed": _reasons(decision.observed),
        "exceptions": [waiver.exception for waiver in decision.waivers],
    }


def _reasons(reasons: tuple[Reason, ...]) -> list[dict[str, str]]:
    return [{"code": reason.code, "message": reason.message} for reason in reasons]


def _token(event: events.TokenIssued | events.TokenRefused | events.CredentialRevoked) -> dict[str, Any]:
    """What became of it: `fate` is *issued*, *refused*, *revoked* or, for one that a third party was to make,
    *not_made*."""
    match event:
        case events.TokenIssued():
            return {
                "fate": "issued",
                "jti": event.jti,
                "audience": event.audience,
                "role": event.role,
                "rule": event.rule,
                "token_kind": event.kind,
                "issued_at": event.issued_at,
                "expires_at": event.expires_at,
            }
        case events.TokenRefused():
            return {
                "fate": "not_made" if event.jti else "refused",
                "jti": event.jti,
                "audience": event.audience,
                "reason": event.reason,
                "role": event.role,
                "rule": event.rule,
                "detail": event.detail,
            }
        case events.CredentialRevoked():
            return {"fate": "revoked", "jti": event.jti, "token_kind": event.kind}
