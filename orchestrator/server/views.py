"""From facts to what the API shows of them. Pure; plain mappings of the shapes in `shapes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from orchestrator.journal.port import JobSummary
from orchestrator.lifecycle.why import Why
from orchestrator.model import events
from orchestrator.model.decision import Decision, Reason
from orchestrator.model.events import Fact
from orchestrator.model.moment import rfc3339
from orchestrator.model.platform import PlatformState
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record, fold

MAX_EGRESS_SHOWN = 1000
"""Newest egress verdicts in a job view; all of them are in the event stream."""

_WITHHELD = frozenset({"script", "environment"})


def timestamp(at_ns: int) -> str | None:
    """RFC 3339 in UTC with microseconds; None for 0, which means *not yet*."""
    return rfc3339(at_ns) if at_ns else None


def _plain(value: object) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain


def event_view(fact: Fact) -> dict[str, Any]:
    """One fact as `{"seq", "at", "kind", …the event's own fields}`.

    Script and environment of an offer are withheld: they are large, and the caller has them.
    """
    body = _plain(fact.event)
    if isinstance(fact.event, events.JobOffered):
        body["offer"]["spec"] = {k: v for k, v in body["offer"]["spec"].items() if k not in _WITHHELD}
    return {
        "job_id": fact.job_id,
        "seq": fact.seq,
        "at": timestamp(fact.at_ns),
        "kind": type(fact.event).__name__,
        "event": body,
    }


def summary_view(line: JobSummary, answer: Why | None) -> dict[str, Any]:
    """One line of a job list; `answer` says why an unfinished job stands where it stands."""
    return {
        "id": line.job_id,
        "name": line.name,
        "pool": line.pool,
        "pipeline": line.pipeline,
        "phase": line.phase.value,
        "result": line.result or None,
        "reason": line.reason or None,
        "why": {"reason": answer.reason, "sentence": answer.sentence} if answer else None,
        "offered_at": timestamp(line.offered_at_ns),
        "finished_at": timestamp(line.finished_at_ns),
    }


def pool_view(pool: Pool, in_use: int, waiting: int, guards_missing: Sequence[str] = ()) -> dict[str, Any]:
    """A pool, how busy it is now, and what it lacks."""
    return {
        "name": pool.name,
        "backend": pool.backend,
        "trust_tier": pool.trust_tier.value,
        "capacity": pool.capacity,
        "in_use": in_use,
        "waiting": waiting,
        "base": pool.base,
        "isolation": pool.isolation,
        "egress": [str(rule) for rule in pool.egress],
        "require_egress_proof": pool.require_egress_proof,
        "max_job_seconds": pool.max_job_seconds,
        "guards_missing": list(guards_missing),
    }


def job_view(facts: Sequence[Fact], trace_id: str) -> dict[str, Any]:
    """A job from all its facts, or from the one line that retention has kept of it.

    Raises:
        MissingOfferError, IllegalMoveError: the facts are not a job's life.
    """
    first = facts[0]
    if isinstance(first.event, events.JobCompacted):
        return _compacted_view(first, first.event, trace_id)
    facts = [fact for fact in facts if not isinstance(fact.event, events.JobCompacted)]
    view = record_view(fold(facts), trace_id)
    for fact in facts:
        _add_note(view, fact.event)
    _tell_fates(view["tokens"], facts)
    view["egress_omitted"] = max(0, len(view["egress"]) - MAX_EGRESS_SHOWN)
    view["egress"] = view["egress"][-MAX_EGRESS_SHOWN:]
    return view


def record_view(record: Record, trace_id: str) -> dict[str, Any]:
    """A job from its record alone: everything but its notes (decisions, tokens, verdicts, …), which stay empty."""
    spec, caller, outcome = record.offer.spec, record.offer.caller, record.outcome
    key, wait, cancel = record.offer.key, record.wait, record.cancel
    return _blank() | {
        "id": record.id,
        "name": spec.name,
        "pool": spec.pool,
        "pipeline": spec.pipeline,
        "source": key.source,
        "attempt": key.attempt,
        "phase": record.phase.value,
        "wait": {"reason": wait.reason.value, "detail": wait.detail} if wait and not outcome else None,
        "result": outcome.result.value if outcome else None,
        "reason": outcome.reason.value if outcome else None,
        "message": outcome.message if outcome else "",
        "exit_code": outcome.exit_code if outcome else None,
        "offered_at": timestamp(record.offered_at_ns),
        "bound_at": timestamp(record.bound_at_ns),
        "ended_at": timestamp(record.ended_at_ns),
        "finished_at": timestamp(record.finished_at_ns),
        "cancel": {"by": cancel.by, "reason": cancel.reason} if cancel else None,
        "caller": {"issuer": caller.issuer, "subject": caller.subject, "facts": dict(caller.facts)},
        "deployment_environment": spec.deployment_environment,
        "artifact_digest": spec.artifact_digest,
        "ticket": spec.ticket,
        "secrets": list(spec.secrets),
        "runner": {"name": record.runner, "uid": record.bound_uid or record.runner_uid} if record.runner else None,
        "platform_job": _platform_view(record, record.platform) if record.platform else None,
        "trace_id": trace_id,
    }


def _platform_view(record: Record, state: PlatformState) -> dict[str, Any]:
    if state.refused is not None:
        word = "refused"
    elif state.completed is not None:
        word = "completed"
    elif state.named_at_ns:
        word = "named"
    else:
        word = "awaited" if record.bound else "expected"
    return {
        "state": word,
        "key": state.key,
        "proof": state.proof,
        "named_at": timestamp(state.named_at_ns),
        "result": state.completed.result if state.completed else "",
        "told_by": state.completed.told_by if state.completed else "",
        "completed_at": timestamp(state.completed_at_ns),
    }


def _blank() -> dict[str, Any]:
    lists = ("decisions", "tokens", "token_refusals", "egress", "artifacts", "provenance", "alarms", "leftovers")
    return {name: [] for name in (*lists, "documents", "attestations", "summaries")} | {
        "egress_omitted": 0,
        "receipt_digest": None,
        "log": None,
        "compacted": False,
    }


_LISTED: Mapping[type[events.Event], str] = {
    events.TokenIssued: "tokens",
    events.TokenRefused: "token_refusals",
    events.EgressDecided: "egress",
    events.ArtifactReported: "artifacts",
    events.ProvenanceSigned: "provenance",
    events.ArtifactAttested: "documents",
    events.AttestationSigned: "attestations",
    events.AlarmRaised: "alarms",
}
"""Notes that are shown as they are, and the list of the view that they go to."""


def _add_note(view: dict[str, Any], event: events.Event) -> None:
    match event:
        case events.JobAdmitted(decision) | events.JobRefused(decision):
            view["decisions"].append(_decision_view(decision, ""))
        case events.PlatformJobNamed(decision=decision) if decision.allowed:  # else a JobRefused follows
            view["decisions"].append(_decision_view(decision, ""))
        case events.ExchangeDecided(audience, decision):
            view["decisions"].append(_decision_view(decision, audience))
        case events.SummarySigned():
            view["summaries"].append({name: value for name, value in _plain(event).items() if name != "envelope"})
        case events.ReceiptSigned(digest=digest):
            view["receipt_digest"] = digest
        case events.LogClosed(kept, dropped, masked):
            view["log"] = {"bytes_kept": kept, "bytes_dropped": dropped, "secrets_masked": masked}
        case events.JobFinished(leftovers):
            view["leftovers"] = list(leftovers)
        case _ if type(event) in _LISTED:
            view[_LISTED[type(event)]].append(_plain(event))
        case _:
            pass


def _tell_fates(tokens: Sequence[dict[str, Any]], facts: Sequence[Fact]) -> None:
    """A third party's token is recorded before it is made: `not_made` and `revoked_at` say what followed."""
    told: dict[str, dict[str, Any]] = {}
    for fact in facts:
        match fact.event:
            case events.TokenRefused(jti=jti) if jti:
                told[jti] = {"not_made": True}
            case events.CredentialRevoked(jti=jti):
                told[jti] = {"revoked_at": timestamp(fact.at_ns)}
            case _:
                pass
    for token in tokens:
        token.update(told.get(token["jti"], {}))


def _decision_view(decision: Decision, audience: str) -> dict[str, Any]:
    obligations = decision.obligations
    return {
        "id": decision.id,
        "stage": decision.stage.value,
        "audience": audience,
        "verdict": decision.verdict.value,
        "reasons": _reasons_view(decision.reasons),
        "observed": _reasons_view(decision.observed),
        "waivers": [{"exception": waiver.exception, "codes": list(waiver.codes)} for waiver in decision.waivers],
        "input_digest": decision.input_digest,
        "bundle_digest": decision.bundle_digest,
        "engine": decision.engine,
        "duration_ns": decision.duration_ns,
        "obligations": {
            "egress": [str(rule) for rule in obligations.egress],
            "max_duration_seconds": obligations.max_duration_seconds,
            "token_ttl_seconds": obligations.token_ttl_seconds,
            "session_tags": dict(obligations.session_tags),
        },
    }


def _compacted_view(fact: Fact, line: events.JobCompacted, trace_id: str) -> dict[str, Any]:
    source, _, rest = fact.job_id.partition(".")
    attempt = rest.rpartition(".")[2]
    blank: Mapping[str, Any] = _blank()
    return {
        **blank,
        "id": fact.job_id,
        "name": line.name,
        "pool": line.pool,
        "pipeline": line.pipeline,
        "source": source,
        "attempt": int(attempt) if attempt.isdecimal() else 1,
        "phase": "finished",
        "wait": None,
        "result": line.outcome.result.value,
        "reason": line.outcome.reason.value,
        "message": line.outcome.message,
        "exit_code": line.outcome.exit_code,
        "offered_at": timestamp(line.offered_at_ns),
        "bound_at": None,
        "ended_at": None,
        "finished_at": timestamp(line.finished_at_ns),
        "cancel": None,
        "caller": {"issuer": "", "subject": "", "facts": {}},
        "deployment_environment": "",
        "artifact_digest": "",
        "ticket": "",
        "secrets": [],
        "runner": None,
        "platform_job": None,
        "trace_id": trace_id,
        "compacted": True,
    }


def _reasons_view(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    return [{"code": reason.code, "message": reason.message} for reason in reasons]
