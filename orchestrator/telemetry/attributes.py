"""What goes on each span and event: names and results, never the script, the environment or a token. Pure.

Every function lists its attributes one by one, so that a new field of a model class cannot leak by itself.
"""

from __future__ import annotations

import re

from orchestrator.model import events
from orchestrator.model.decision import Decision
from orchestrator.model.job import JobOffer
from orchestrator.model.outcome import Outcome, Result
from orchestrator.telemetry import semconv
from orchestrator.telemetry.platform_trace import platform_run_id
from orchestrator.telemetry.records import Attributes, AttributeValue, Severity, SpanStatus, bounded
from orchestrator.telemetry.semconv import OWN

DISPATCH = "dispatch"
"""The source whose jobs can be whole pipeline runs."""
MAX_CALLER_FACTS = 16
_FACT_NAME = re.compile(r"[a-z0-9_.]{1,40}")
_ERRORS = frozenset({Result.FAILURE, Result.ERROR, Result.TIMEOUT})


def of_offer(offer: JobOffer, public_url: str = "") -> Attributes:
    """Attributes of the root span that are known from the start."""
    spec, key = offer.spec, offer.key
    caller = {
        f"{OWN}caller.fact.{name}": value
        for name, value in sorted(offer.caller.facts.items())[:MAX_CALLER_FACTS]
        if _FACT_NAME.fullmatch(name)
    }
    return bounded(
        {
            semconv.CICD_PIPELINE_NAME: spec.pipeline or spec.name,
            semconv.CICD_PIPELINE_ACTION_NAME: semconv.ACTION_RUN,
            semconv.CICD_PIPELINE_RUN_ID: key.id if whole_run(offer) else platform_run_id(offer),
            semconv.CICD_PIPELINE_TASK_NAME: spec.name,
            semconv.CICD_PIPELINE_TASK_RUN_ID: key.id,
            semconv.CICD_PIPELINE_TASK_RUN_URL_FULL: f"{public_url}/v1/jobs/{key.id}" if public_url else "",
            semconv.DEPLOYMENT_ENVIRONMENT_NAME: spec.deployment_environment,
            f"{OWN}job.id": key.id,
            f"{OWN}job.source": key.source,
            f"{OWN}job.attempt": key.attempt,
            f"{OWN}pool": spec.pool,
            f"{OWN}artifact.digest": spec.artifact_digest,
            f"{OWN}caller.issuer": offer.caller.issuer,
            f"{OWN}caller.subject": offer.caller.subject,
            **caller,
        }
    )


def whole_run(offer: JobOffer) -> bool:
    """Whether the job is a whole pipeline run: one that was dispatched and belongs to no pipeline. Of a run of several
    jobs, or of one of a platform's, we see parts."""
    spec = offer.spec
    return offer.key.source == DISPATCH and not spec.pipeline and not spec.awaits_platform_job


def result_word(outcome: Outcome) -> str:
    """The conventions' word for a result: a denied job never ran because a precondition did not hold, which they call
    *skip*."""
    return semconv.RESULT_SKIP if outcome.result is Result.DENIED else outcome.result.value


def of_outcome(outcome: Outcome, own_pipeline: bool) -> Attributes:
    """What the root span says once the job has ended. Our own attribute keeps the exact word of the result."""
    result = result_word(outcome)
    return bounded(
        {
            semconv.CICD_PIPELINE_TASK_RUN_RESULT: result,
            semconv.CICD_PIPELINE_RESULT: result if own_pipeline else None,
            f"{OWN}job.result": outcome.result.value,
            f"{OWN}job.reason": outcome.reason.value,
            f"{OWN}job.exit_code": outcome.exit_code,
            semconv.ERROR_TYPE: error_type(outcome),
        }
    )


def status_of(outcome: Outcome) -> SpanStatus:
    """ERROR for failure, error and timeout; a cancelled or denied job is no error of anything."""
    return SpanStatus.ERROR if outcome.result in _ERRORS else SpanStatus.UNSET


def error_type(outcome: Outcome) -> str:
    """`error.type` of an ended job: its reason word, or nothing when the result is no error."""
    return outcome.reason.value if outcome.result in _ERRORS else ""


def of_decision(decision: Decision) -> Attributes:
    """A decision without its reasons' sentences, which a rule may build from what the job said."""
    return bounded(
        {
            f"{OWN}policy.stage": decision.stage.value,
            f"{OWN}policy.verdict": decision.verdict.value,
            f"{OWN}policy.reasons": tuple(reason.code for reason in decision.reasons),
            f"{OWN}policy.observed": tuple(reason.code for reason in decision.observed),
            f"{OWN}policy.waived": tuple(code for waiver in decision.waivers for code in waiver.codes),
            f"{OWN}policy.decision_id": decision.id,
            f"{OWN}policy.input_digest": decision.input_digest,
            f"{OWN}policy.bundle_digest": decision.bundle_digest,
            f"{OWN}policy.engine": decision.engine,
        }
    )


def of_binding(event: events.RunnerBound) -> Attributes:
    """The egress proof, whose probe names are the runner's own words."""
    return bounded(
        {
            semconv.CICD_WORKER_ID: event.uid,
            semconv.CICD_WORKER_NAME: event.runner,
            f"{OWN}egress.proof.holds": event.proof.holds,
            f"{OWN}egress.proof.denied": event.proof.denied,
            f"{OWN}egress.proof.reached": event.proof.reached,
        }
    )


def of_event(event: events.Event) -> tuple[str, Severity, Attributes] | None:
    """Name, severity and attributes of the log-based event that stands for a fact; None when spans say it all."""
    row = _access_row(event) or _lifecycle_row(event) or _platform_row(event) or _evidence_row(event)
    if row is None:
        return None
    name, severity, attributes = row
    return OWN + name, severity, bounded({OWN + key: value for key, value in attributes.items()})


_Row = tuple[str, Severity, dict[str, AttributeValue | None]]


def _access_row(event: events.Event) -> _Row | None:
    match event:
        case events.TokenIssued():
            return (
                "token.issued",
                Severity.INFO,
                {
                    "token.id": event.jti,
                    "token.audience": event.audience,
                    "token.subject": event.subject,
                    "token.algorithm": event.algorithm,
                    "token.key_id": event.key_id,
                    "token.lifetime_seconds": event.expires_at - event.issued_at,
                    "token.session_tags": event.session_tags,
                    "token.kind": event.kind,
                    "token.role": event.role or None,
                    "trust.rule": event.rule or None,
                    "trust.digest": event.trust_digest or None,
                },
            )
        case events.TokenRefused():
            told: dict[str, AttributeValue | None] = {"token.audience": event.audience, "reason": event.reason}
            told |= {"token.role": event.role or None, "trust.rule": event.rule or None}
            return "token.refused", Severity.WARN, told
        case events.CredentialRevoked(jti, kind):
            return "credential.revoked", Severity.INFO, {"token.id": jti, "token.kind": kind}
        case events.EgressDecided():
            refused = not event.allowed and not event.canary
            return (
                "egress.decided",
                Severity.WARN if refused else Severity.INFO,
                {
                    "egress.verdict": "allow" if event.allowed else "deny",
                    "egress.host": event.host,
                    "egress.port": event.port,
                    "egress.protocol": event.protocol,
                    "egress.rule": event.rule,
                    "egress.address": event.address,
                    "egress.bytes_up": event.bytes_up,
                    "egress.bytes_down": event.bytes_down,
                    "egress.duration_seconds": event.duration_ns / 1e9,
                    "egress.canary": event.canary,
                    "egress.connections": event.connections,
                    "reason": event.reason,
                },
            )
        case _:
            return None


def _evidence_row(event: events.Event) -> _Row | None:
    match event:
        case events.AttestationSigned(predicate_type, digests, attestation):
            told: dict[str, AttributeValue | None] = {"artifact.digests": digests, "attestation.type": predicate_type}
            return "artifact.attested", Severity.INFO, {**told, "attestation.digest": attestation}
        case events.SummarySigned():
            gate: dict[str, AttributeValue | None] = {"artifact.digest": event.artifact_digest}
            gate |= {"gate.environment": event.environment, "gate.summary": event.digest}
            return "gate.passed", Severity.INFO, {**gate, "policy.decision_id": event.decision_id}
        case events.ExceptionUsed():
            used: dict[str, AttributeValue | None] = {"exception.id": event.exception, "exception.kind": event.kind}
            used |= {"exception.waived": event.waived, "exception.use": event.number}
            return "exception.used", Severity.ERROR, {**used, "policy.decision_id": event.decision_id}
        case events.SecretDelivered(name, version, age):
            secret: dict[str, AttributeValue | None] = {"secret.name": name, "secret.version": version}
            return "secret.delivered", Severity.WARN, {**secret, "secret.age_seconds": age}
        case _:
            return None


def _lifecycle_row(event: events.Event) -> _Row | None:
    match event:
        case events.JobWaited(reason=reason, detail=detail):
            return "job.waited", Severity.INFO, {"wait.reason": reason.value, "detail": detail}
        case events.RunnerVanished(runner=runner, detail=detail):
            return "runner.vanished", Severity.WARN, {"runner.name": runner, "detail": detail}
        case events.JobCancelRequested(by=by, reason=reason):
            return "job.cancel_requested", Severity.INFO, {"cancel.by": by, "reason": reason}
        case events.ArtifactReported(name=name, digest=digest, size_bytes=size):
            keys: dict[str, AttributeValue | None] = {"artifact.name": name, "artifact.digest": digest}
            return "artifact.reported", Severity.INFO, {**keys, "artifact.size_bytes": size}
        case events.ArtifactNamed(digest):
            return "artifact.named", Severity.INFO, {"artifact.digest": digest}
        case events.ProvenanceSigned(digests=digests):
            return "provenance.signed", Severity.INFO, {"provenance.digests": digests}
        case events.ReceiptSigned(digest=digest):
            return "receipt.signed", Severity.INFO, {"receipt.digest": digest}
        case events.LogClosed(bytes_kept=kept, bytes_dropped=dropped, secrets_masked=masked):
            return (
                "log.closed",
                Severity.INFO,
                {"log.bytes_kept": kept, "log.bytes_dropped": dropped, "log.secrets_masked": masked},
            )
        case events.SpansRelayed(accepted=accepted, refused=refused):
            return "spans.relayed", Severity.INFO, {"spans.accepted": accepted, "spans.refused": refused}
        case events.AlarmRaised(alarm=alarm, detail=detail):
            return "alarm.raised", Severity.ERROR, {"alarm": alarm, "detail": detail}
        case events.DaemonRestarted(instance=instance):
            return "daemon.restarted", Severity.WARN, {"daemon.instance": instance}
        case _:
            return None


def _platform_row(event: events.Event) -> _Row | None:
    match event:
        case events.PlatformJobNamed(job):
            return "platform.job_named", Severity.INFO, {"platform.job_key": job.key, "platform.proof": job.proof}
        case events.PlatformJobCompleted(result):
            said: dict[str, AttributeValue | None] = {"platform.result": result.result}
            return "platform.job_completed", Severity.INFO, {**said, "platform.told_by": result.told_by}
        case events.RunnerExited(runner, code, cause, detail):
            left: dict[str, AttributeValue | None] = {"runner.name": runner, "runner.exit_code": code}
            return "runner.exited", Severity.INFO, {**left, "runner.exit_cause": cause or "", "detail": detail}
        case _:
            return None
