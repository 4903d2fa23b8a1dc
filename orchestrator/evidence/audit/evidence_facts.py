"""What the audit log is told of evidence, gates, exceptions and registered secrets. Pure; see `facts`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from orchestrator.model import events
from orchestrator.model.events import Event

_MAX_TEXT: Final = 400
_MAX_LIST: Final = 32
_MAX_ENTRY: Final = 120


def _signed(_job: object, event: events.ProvenanceSigned) -> dict[str, Any]:
    envelope = f"sha256:{sha256(event.envelope.encode()).hexdigest()}"
    return {"artifacts": _some(event.digests), "artifact_count": len(event.digests), "envelope": envelope}


def _receipt(_job: object, event: events.ReceiptSigned) -> dict[str, Any]:
    return {"digest": event.digest[:_MAX_TEXT]}


def _attested(_job: object, event: events.AttestationSigned) -> dict[str, Any]:
    return {
        "predicate_type": event.predicate_type[:_MAX_TEXT],
        "artifacts": _some(event.digests),
        "attestation": event.attestation[:_MAX_TEXT],
    }


def _summed_up(_job: object, event: events.SummarySigned) -> dict[str, Any]:
    return {
        "artifact": event.artifact_digest[:_MAX_TEXT],
        "summary": event.digest[:_MAX_TEXT],
        "decision": event.decision_id[:_MAX_TEXT],
    }


def _excepted(_job: object, event: events.ExceptionUsed) -> dict[str, Any]:
    return {
        "exception": event.exception[:_MAX_TEXT],
        "kind": event.kind[:_MAX_TEXT],
        "waived": _some(event.waived),
        "approvers": _some(event.approvers),
        "number": event.number,
        "decision": event.decision_id[:_MAX_TEXT],
    }


def _delivered(_job: object, event: events.SecretDelivered) -> dict[str, Any]:
    return {"secret": event.name[:_MAX_TEXT], "version": event.version[:_MAX_TEXT], "age_seconds": event.age_seconds}


def _some(texts: Sequence[str]) -> list[str]:
    return [text[:_MAX_ENTRY] for text in texts[:_MAX_LIST]]


EVIDENCE_ROWS: Final[Mapping[type[Event], tuple[str, Callable[[Any, Any], dict[str, Any]]]]] = {
    events.ProvenanceSigned: ("artifact.signed", _signed),
    events.ReceiptSigned: ("receipt.signed", _receipt),
    events.AttestationSigned: ("artifact.attested", _attested),
    events.SummarySigned: ("gate.passed", _summed_up),
    events.ExceptionUsed: ("exception.used", _excepted),
    events.SecretDelivered: ("secret.delivered", _delivered),
}
"""Kind of record, and what it says, for each of these facts."""
