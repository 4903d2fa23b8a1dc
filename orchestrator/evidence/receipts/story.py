"""What a job's facts tell for its receipt: one by one as they become durable, or all at once from a journal. Pure.

All that a job can make many of is bounded here: what is beyond the lists is counted, never dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.events import Event, Fact

MOST_LISTED: Final = 200
"""Tokens, decisions and rules that are listed one by one; a job that asks for more has the rest summed up."""

_REST: Final = "(further rules)"


@dataclass(slots=True)
class UsedRule:
    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True)
class SummedTokens:
    count: int = 0
    expire: int = 0
    sessions_end: int = 0
    unknown: bool = False


@dataclass(slots=True)
class RaisedAlarm:
    first_ns: int
    count: int = 0


@dataclass(slots=True)
class UsedRunner:
    uid: str
    created_ns: int = 0
    bound_ns: int = 0
    vanished_ns: int = 0


@dataclass(slots=True)
class Story:
    """What a job's record leaves out and its receipt tells; it grows with each fact. Times are Unix nanoseconds."""

    first_seq: int = 0
    last_seq: int = 0
    last_ns: int = 0
    count: int = 0
    restarts: int = 0
    outlived: bool = False
    """The daemon that made the last runner is gone."""
    deleted_ns: int = 0
    uses: list[UsedRunner] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)
    more_decisions: dict[str, int] = field(default_factory=dict)
    tokens: list[events.TokenIssued] = field(default_factory=list)
    more_tokens: dict[tuple[str, str], SummedTokens] = field(default_factory=dict)
    token_refusals: dict[str, int] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)
    more_revoked: int = 0
    rules: dict[str, UsedRule] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    probes: int = 0
    log: events.LogClosed | None = None
    artifacts: list[str] = field(default_factory=list)
    attestations: list[str] = field(default_factory=list)
    summaries: list[events.SummarySigned] = field(default_factory=list)
    more_summaries: int = 0
    alarms: dict[str, RaisedAlarm] = field(default_factory=dict)

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Story:
        story = cls()
        for fact in facts:
            story.hear(fact)
        return story

    def hear(self, fact: Fact) -> None:
        """One more fact of the job, in order."""
        self.count += 1
        self.last_seq = fact.seq
        self.last_ns = fact.at_ns
        if self.count == 1:
            self.first_seq = fact.seq
        self.take(fact.event, fact.at_ns)

    def with_notes(self, notes: Sequence[Event], at_ns: int) -> Story:
        """A story of its own that knows of `notes` too, which are to become facts together with the receipt."""
        if not notes:
            return self
        told = deepcopy(self)
        for event in notes:
            told.take(event, at_ns)
        return told

    def take(self, event: Event, at_ns: int) -> None:
        """What an event tells, whatever its place."""
        take = _TAKEN.get(type(event))
        if take is not None:
            take(self, event, at_ns)

    def decided(self, audience: str, decision: Decision) -> None:
        if len(self.decisions) < MOST_LISTED:
            self.decisions.append((audience, decision))
        else:
            _count(self.more_decisions, f"{decision.stage.value} {decision.verdict.value}")

    def used(self, uid: str) -> UsedRunner:
        for use in self.uses:
            if use.uid == uid:
                return use
        use = UsedRunner(uid)
        self.uses.append(use)
        return use


def _count(counts: dict[str, int], word: str, more: int = 1) -> None:
    counts[word] = counts.get(word, 0) + more


def _admission(story: Story, event: Any, _at_ns: int) -> None:
    story.decided("", event.decision)


def _named(story: Story, event: events.PlatformJobNamed, _at_ns: int) -> None:
    if event.decision.allowed:  # else a JobRefused follows
        story.decided("", event.decision)


def _exchange(story: Story, event: events.ExchangeDecided, _at_ns: int) -> None:
    story.decided(event.audience, event.decision)


def _created(story: Story, event: events.RunnerCreated, at_ns: int) -> None:
    story.used(event.uid).created_ns = at_ns
    story.outlived = False


def _vanished(story: Story, _event: events.RunnerVanished, at_ns: int) -> None:
    if story.uses:
        story.uses[-1].vanished_ns = at_ns


def _bound(story: Story, event: events.RunnerBound, at_ns: int) -> None:
    story.used(event.uid).bound_ns = at_ns
    story.outlived = False


def _deleted(story: Story, _event: events.RunnerDeleted, at_ns: int) -> None:
    story.deleted_ns = at_ns


def _issued(story: Story, event: events.TokenIssued, _at_ns: int) -> None:
    if len(story.tokens) < MOST_LISTED:
        story.tokens.append(event)
        return
    more = story.more_tokens.setdefault((event.kind, event.audience), SummedTokens())
    more.count += 1
    more.expire = max(more.expire, event.expires_at)
    more.sessions_end = max(more.sessions_end, event.session_expires_at)
    more.unknown = more.unknown or not event.session_expires_at


def _token_refused(story: Story, event: events.TokenRefused, _at_ns: int) -> None:
    _count(story.token_refusals, event.reason)
    if event.jti:  # it was on record before a third party was asked, who certainly made none
        story.tokens = [token for token in story.tokens if token.jti != event.jti]


def _revoked(story: Story, event: events.CredentialRevoked, at_ns: int) -> None:
    if any(token.jti == event.jti for token in story.tokens):
        story.revoked.setdefault(event.jti, at_ns)
    else:
        story.more_revoked += 1


def _egress(story: Story, event: events.EgressDecided, _at_ns: int) -> None:
    if not event.allowed:
        _count(story.refused, event.reason, event.connections)
        story.probes += event.connections if event.canary else 0
        return
    rule = story.rules.get(event.rule)
    if rule is None:
        named = event.rule if len(story.rules) < MOST_LISTED else _REST
        rule = story.rules.setdefault(named, UsedRule())
    rule.connections += event.connections
    rule.bytes_up += event.bytes_up
    rule.bytes_down += event.bytes_down


def _log_closed(story: Story, event: events.LogClosed, _at_ns: int) -> None:
    story.log = event


def _provenance(story: Story, event: events.ProvenanceSigned, _at_ns: int) -> None:
    story.artifacts += [digest for digest in event.digests if digest not in story.artifacts]


def _attestation(story: Story, event: events.AttestationSigned, _at_ns: int) -> None:
    if event.attestation not in story.attestations:
        story.attestations.append(event.attestation)


def _summary(story: Story, event: events.SummarySigned, _at_ns: int) -> None:
    if len(story.summaries) < MOST_LISTED:
        story.summaries.append(event)
    else:
        story.more_summaries += 1


def _alarm(story: Story, event: events.AlarmRaised, at_ns: int) -> None:
    story.alarms.setdefault(event.alarm, RaisedAlarm(at_ns)).count += 1


def _restarted(story: Story, _event: events.DaemonRestarted, _at_ns: int) -> None:
    story.restarts += 1
    story.outlived = True


_TAKEN: Final[Mapping[type[Event], Callable[[Story, Any, int], None]]] = {
    events.JobAdmitted: _admission,
    events.JobRefused: _admission,
    events.PlatformJobNamed: _named,
    events.ExchangeDecided: _exchange,
    events.RunnerCreated: _created,
    events.RunnerVanished: _vanished,
    events.RunnerBound: _bound,
    events.RunnerDeleted: _deleted,
    events.TokenIssued: _issued,
    events.TokenRefused: _token_refused,
    events.CredentialRevoked: _revoked,
    events.EgressDecided: _egress,
    events.LogClosed: _log_closed,
    events.ProvenanceSigned: _provenance,
    events.AttestationSigned: _attestation,
    events.SummarySigned: _summary,
    events.AlarmRaised: _alarm,
    events.DaemonRestarted: _restarted,
}
