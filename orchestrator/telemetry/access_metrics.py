"""What jobs asked for and what they were told: policy, tokens, egress, and spans of their own."""

from __future__ import annotations

from orchestrator.model import events
from orchestrator.model.decision import CONFIGURATION, Decision
from orchestrator.telemetry.instruments import POLICY_BUCKETS, Instruments


class AccessMetrics:
    """Counts decisions, credentials and connections."""

    def __init__(self, make: Instruments) -> None:
        self._make = make
        self._decisions = make.counter("policy_decision", "Policy's answers.", ("stage", "verdict"))
        policy = "How long policy took to answer."
        self._policy = make.histogram("policy_decision_duration_seconds", policy, ("stage",), POLICY_BUCKETS)
        denied = "Reasons for which policy did not allow, by their codes; an answer may have several."
        self._denied = make.counter("policy_denied", denied, ("stage", "code"))
        watched = "Requirements that were not met and are only watched for now, by the rule's code."
        self._observed = make.counter("policy_observed", watched, ("stage", "code"))
        aside = "Requirements that a signed exception set aside, by the rule's code."
        self._waived = make.counter("policy_waived", aside, ("stage", "code"))
        self._tokens = make.counter("token_request", "Token exchanges.", ("outcome", "reason"))
        revoked = "Credentials of third parties that were ended there before they expired."
        self._revoked = make.counter("credential_revoked", revoked, ("kind",))
        verdict = "Connections that jobs asked for, the agents' own probes not counted."
        self._egress = make.counter("egress_decision", verdict, ("pool", "verdict", "reason"))
        self._bytes = make.counter("egress_bytes", "Payload through the gateway.", ("pool", "direction"))
        self._spans = make.counter("relayed_span", "Spans that jobs sent.", ("outcome",))
        self._tokens.labels("issued", "")

    def count(self, event: events.Event, pool: str) -> None:
        match event:
            case events.JobAdmitted(decision) | events.JobRefused(decision) | events.ExchangeDecided(decision=decision):
                self._decided(decision)
            case events.PlatformJobNamed(decision=decision) if decision.allowed:  # else a JobRefused follows
                self._decided(decision)
            case events.TokenIssued():
                self._tokens.labels("issued", "").inc()
            case events.TokenRefused(reason=reason):
                self._tokens.labels("refused", self._make.word("token", reason)).inc()
            case events.CredentialRevoked(kind=kind):
                self._revoked.labels(self._make.word("credential", kind)).inc()
            case events.EgressDecided():
                self._connected(event, pool)
            case events.SpansRelayed(accepted=accepted, refused=refused):
                self._spans.labels("accepted").inc(max(accepted, 0))
                self._spans.labels("refused").inc(max(refused, 0))
            case _:
                pass

    def _decided(self, decision: Decision) -> None:
        if decision.engine == CONFIGURATION:
            return  # nobody was asked
        stage = decision.stage.value
        self._decisions.labels(stage, decision.verdict.value).inc()
        self._policy.labels(stage).observe(max(decision.duration_ns, 0) / 1e9)
        if not decision.allowed:
            for code in {reason.code for reason in decision.reasons}:
                self._denied.labels(stage, self._make.word("policy", code)).inc()
        for reason in decision.observed:
            self._observed.labels(stage, self._make.word("policy", reason.code)).inc()
        for code in (code for waiver in decision.waivers for code in waiver.codes):
            self._waived.labels(stage, self._make.word("policy", code)).inc()

    def _connected(self, event: events.EgressDecided, pool: str) -> None:
        if event.canary:
            return
        verdict = "allow" if event.allowed else "deny"
        self._egress.labels(pool, verdict, self._make.word("egress", event.reason)).inc(max(event.connections, 1))
        self._bytes.labels(pool, "up").inc(max(event.bytes_up, 0))
        self._bytes.labels(pool, "down").inc(max(event.bytes_down, 0))
