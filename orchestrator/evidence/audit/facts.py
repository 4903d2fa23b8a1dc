"""Facts of jobs as audit events: which of them are told, and what of them. Pure, but for what it remembers of jobs.

Ids, verdicts, rule names, digests, audiences and token ids are told as they are. What people or jobs chose, such as
names, subjects, scripts and hosts that nobody granted, is told as keyed hashes, or not at all. One fact is one record
at most, so that a kill cannot leave half of what a fact has to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.evidence.audit.decision_facts import of_decision
from orchestrator.evidence.audit.egress_tally import EgressTally, bounded
from orchestrator.evidence.audit.evidence_facts import EVIDENCE_ROWS
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.audit.record import AuditEvent
from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event, Fact
from orchestrator.model.job import Caller, JobId, JobOffer

DAEMON: Final = "daemon"
MAX_TEXT: Final = 400
"""Characters of one text. All bounds together keep every record below `record.MAX_RECORD_BYTES`, whatever is in it."""
MAX_LIST: Final = 32
"""Entries of one list; what comes after is left out."""
MAX_ENTRY: Final = 120
"""Characters of one entry."""

_WORKFLOWS: Final = ("job_workflow_ref", "workflow_ref", "workflow")
_COMMITS: Final = ("sha", "commit", "commit_sha", "revision")

_BY_THE_DAEMON: Final = frozenset(
    {
        events.RunnerBound, events.CredentialRevoked, events.JobEnded, events.JobFinished, events.AlarmRaised,
        *EVIDENCE_ROWS,
    }
)  # fmt: skip
"""What the daemon did or found; all else was done for the job's caller."""


@dataclass(slots=True)
class _Job:
    """What is remembered of an unfinished job: what every record of it says."""

    trace_id: str = ""
    caller: str = ""
    subject: str = ""
    workflow: str = ""
    commit: str = ""
    environment: str = ""
    outcome: str = ""
    granted: frozenset[str] = frozenset()
    asked: Mapping[str, Any] = field(default_factory=dict)
    egress: EgressTally | None = None


class JobFacts:
    """Turns facts into events, in their order. `trace_id` gives the id of a job's trace."""

    def __init__(self, keyed: KeyedHash, trace_id: Callable[[JobId], str]) -> None:
        self._keyed = keyed
        self._trace_id = trace_id
        self._jobs: dict[JobId, _Job] = {}
        self._rows: Mapping[type[Event], tuple[str, Callable[[_Job, Any], dict[str, Any]]]] = {
            events.JobAdmitted: ("job.admitted", _admitted),
            events.JobRefused: ("job.refused", _refused),
            events.PlatformJobNamed: ("job.named", self._named),
            events.ArtifactNamed: ("artifact.named", lambda _job, event: {"artifact": event.digest[:MAX_TEXT]}),
            events.RunnerBound: ("runner.bound", _bound),
            events.ExchangeDecided: ("token.decided", _decided),
            events.TokenIssued: ("token.issued", self._issued),
            events.TokenRefused: ("token.refused", _token_refused),
            events.CredentialRevoked: ("credential.revoked", _revoked),
            events.JobCancelRequested: ("job.cancel_requested", lambda _job, _event: {}),
            events.JobEnded: ("job.ended", _ended),
            events.AlarmRaised: ("alarm.raised", _alarm),
            events.JobFinished: ("teardown.finished", self._finished),
            **EVIDENCE_ROWS,
        }

    def __len__(self) -> int:
        """Unfinished jobs that are remembered."""
        return len(self._jobs)

    def recall(self, facts: Iterable[Fact]) -> None:
        """Facts that are told already, or never need be."""
        for fact in facts:
            self._follow(fact)
            if isinstance(fact.event, events.JobFinished):
                self._jobs.pop(fact.job_id, None)

    def told(self, facts: Iterable[Fact]) -> list[AuditEvent]:
        """What is to be told of facts that were just stored; nothing of most."""
        told = []
        for fact in facts:
            job = self._follow(fact)
            row = self._rows.get(type(fact.event))
            if row is not None:
                told.append(self._event(job, fact, *row))
                if isinstance(fact.event, events.JobFinished):
                    self._jobs.pop(fact.job_id, None)
        return told

    def _event(self, job: _Job, fact: Fact, kind: str, data_of: Callable[[_Job, Any], dict[str, Any]]) -> AuditEvent:
        event = fact.event
        return AuditEvent(
            kind=kind,
            at_ns=fact.at_ns,
            job_id=fact.job_id,
            trace_id=job.trace_id or self._trace_id(fact.job_id),
            actor=self._actor(job, event),
            workflow=job.workflow,
            commit=job.commit,
            environment=job.environment,
            outcome=event.decision.verdict.value if isinstance(event, events.ExchangeDecided) else job.outcome,
            data={**data_of(job, event), "caller": job.caller},
            journal_seq=fact.seq,
        )

    def _actor(self, job: _Job, event: Event) -> str:
        if isinstance(event, events.JobCancelRequested):
            return DAEMON if event.by == DAEMON else self._keyed.of("subject", event.by)
        return DAEMON if type(event) in _BY_THE_DAEMON else job.caller

    def _follow(self, fact: Fact) -> _Job:
        """The fact's job, with what the fact adds to it. One that has no offer is not kept in mind."""
        job, event = self._jobs.get(fact.job_id), fact.event
        if job is None:
            job = _Job()
            if isinstance(event, events.JobOffered):
                self._jobs[fact.job_id] = job
        match event:
            case events.JobOffered(offer):
                job.trace_id = self._trace_id(fact.job_id)
                self._for(job, offer.caller, offer.spec.pipeline, offer.spec.deployment_environment)
                job.asked = self._asked(job, offer)
            case events.PlatformJobNamed(named, decision):
                self._for(job, named.caller, named.pipeline, named.deployment_environment)
                self._judged(job, decision)
            case events.JobAdmitted(decision) | events.JobRefused(decision):
                self._judged(job, decision)
            case events.EgressDecided():
                job.egress = job.egress or EgressTally()
                job.egress.add(event)
            case _:
                pass
        return job

    def _for(self, job: _Job, caller: Caller, pipeline: str, environment: str) -> None:
        facts = caller.facts
        # The id is a plain hash of issuer and subject, which gives a subject away to whoever guesses it.
        job.caller, job.subject = (
            self._keyed.of("caller", caller.id),
            self._keyed.of("subject", caller.subject[:MAX_TEXT]),
        )
        # What the caller's issuer says of it goes before the job's own word, which is not shown.
        job.workflow = _first(facts, _WORKFLOWS) or self._keyed.of("pipeline", pipeline)
        job.commit = _first(facts, _COMMITS)
        job.environment = environment[:MAX_TEXT]

    def _judged(self, job: _Job, decision: Decision) -> None:
        job.outcome = decision.verdict.value
        job.granted = frozenset(rule.host for rule in decision.obligations.egress)

    def _asked(self, job: _Job, offer: JobOffer) -> Mapping[str, Any]:
        """Who wanted what."""
        return {
            "source": offer.key.source,
            "attempt": offer.key.attempt,
            "pool": str(offer.spec.pool)[:MAX_TEXT],
            "issuer": offer.caller.issuer[:MAX_TEXT],
            "subject": job.subject,
            "name": self._keyed.of("name", offer.spec.name[:MAX_TEXT]),
            "work": self._keyed.of("work", offer.fingerprint),
            "artifact_digest": offer.spec.artifact_digest[:MAX_TEXT],
            "repository_id": offer.caller.facts.get("repository_id", "")[:MAX_TEXT],
        }

    def _named(self, job: _Job, event: events.PlatformJobNamed) -> dict[str, Any]:
        named = event.job
        return {
            "platform_key": named.key[:MAX_TEXT],
            "proof": named.proof[:MAX_TEXT],
            "issuer": named.caller.issuer[:MAX_TEXT],
            "subject": job.subject,
            "name": self._keyed.of("name", named.name[:MAX_TEXT]),
            "repository_id": named.caller.facts.get("repository_id", "")[:MAX_TEXT],
            "decision": of_decision(event.decision),
        }

    def _issued(self, job: _Job, event: events.TokenIssued) -> dict[str, Any]:
        return {
            "jti": event.jti[:MAX_TEXT],
            "kind": event.kind[:MAX_TEXT],
            "audience": event.audience[:MAX_TEXT],
            "subject": self._keyed.of("token_subject", event.subject[:MAX_TEXT]),
            "algorithm": event.algorithm[:MAX_TEXT],
            "key_id": event.key_id[:MAX_TEXT],
            "issuer": event.issuer[:MAX_TEXT],
            "issued_at": bounded(event.issued_at),
            "expires_at": bounded(event.expires_at),
            "session_expires_at": bounded(event.session_expires_at),
            "session_tags": _some(event.session_tags),
            "target": event.target[:MAX_TEXT],
            "role": event.role[:MAX_TEXT],
            "rule": event.rule[:MAX_TEXT],
            "trust_digest": event.trust_digest[:MAX_TEXT],
        }

    def _finished(self, job: _Job, event: events.JobFinished) -> dict[str, Any]:
        egress = job.egress or EgressTally()
        return {
            "leftovers": _some(event.leftovers),
            "leftover_count": len(event.leftovers),
            "egress": egress.told(self._keyed, job.granted),
        }


def _admitted(job: _Job, event: events.JobAdmitted) -> dict[str, Any]:
    rules = event.decision.obligations.egress
    return {
        **job.asked,
        "decision": of_decision(event.decision),
        "egress": [str(rule)[:MAX_TEXT] for rule in rules[:MAX_LIST]],
        "egress_rules": len(rules),
    }


def _refused(job: _Job, event: events.JobRefused) -> dict[str, Any]:
    return {**job.asked, "decision": of_decision(event.decision)}


def _bound(_job: _Job, event: events.RunnerBound) -> dict[str, Any]:
    return {
        "runner": str(event.runner)[:MAX_TEXT],
        "runner_uid": event.uid[:MAX_TEXT],
        "egress_denied": _some(event.proof.denied),
        "egress_reached": _some(event.proof.reached),
    }


def _decided(_job: _Job, event: events.ExchangeDecided) -> dict[str, Any]:
    return {"audience": event.audience[:MAX_TEXT], "decision": of_decision(event.decision)}


def _token_refused(_job: _Job, event: events.TokenRefused) -> dict[str, Any]:
    return {
        "audience": event.audience[:MAX_TEXT],
        "reason": event.reason[:MAX_TEXT],
        "role": event.role[:MAX_TEXT],
        "rule": event.rule[:MAX_TEXT],
    }


def _revoked(_job: _Job, event: events.CredentialRevoked) -> dict[str, Any]:
    return {"jti": event.jti[:MAX_TEXT], "kind": event.kind[:MAX_TEXT]}


def _ended(_job: _Job, event: events.JobEnded) -> dict[str, Any]:
    outcome, code = event.outcome, event.outcome.exit_code
    return {
        "result": outcome.result.value,
        "reason": outcome.reason.value,
        "exit_code": None if code is None else bounded(code),
    }


def _alarm(_job: _Job, event: events.AlarmRaised) -> dict[str, Any]:
    return {"alarm": event.alarm[:MAX_TEXT]}


def _some(texts: Sequence[str]) -> list[str]:
    return [text[:MAX_ENTRY] for text in texts[:MAX_LIST]]


def _first(facts: Mapping[str, str], names: Sequence[str]) -> str:
    return next((facts[name][:MAX_TEXT] for name in names if facts.get(name)), "")
