"""Alerts about jobs, and about what they may. Each has a runbook in docs/how-to/sre-guide.md."""

from __future__ import annotations

from typing import Final

from orchestrator.telemetry.monitoring.alert import Alert, Severity, gone, grew, grown, increase

_STUCK: Final = "unschedulable|image_pull|start_failing|quota_exhausted|runner_vanished"
_ENDED: Final = "orchestrator_job_duration_seconds_count"
"""Ends by pool and result alone: each begins at 0, so that the first burst of errors is an increase."""
_POLICY: Final = 'cicd_system_errors_total{cicd_system_component="policy"}'
_REFUSED: Final = 'orchestrator_token_request_total{outcome="refused"}'
_PAGE, _TICKET = Severity.PAGE, Severity.TICKET
_ERRORS: Final = increase(_ENDED + '{result="error"}', "30m", "job, pool")
_USES: Final = increase("orchestrator_exception_use_total", "1d")
_BUILD: Final = "orchestrator_build_info"

JOBS: Final = (
    Alert(
        "OrchestratorDown",
        f"absent_over_time({_BUILD}[6h]) or {gone(_BUILD)}",
        "2m",
        _PAGE,
        "The daemon {{ $labels.job }} does not answer Prometheus",
        "No job is taken in or ended. Runners in a cluster go on; sandboxes end with the daemon.",
    ),
    Alert(
        "OrchestratorCheckFailing",
        'orchestrator_check_ok{check!="intake"} == 0',
        "5m",
        _PAGE,
        "Check {{ $labels.check }} of readiness fails",
        "The daemon says that it is not ready, and takes nothing in where this is needed.",
    ),
    Alert(
        "OrchestratorJobsWaitTooLong",
        "orchestrator_queue_oldest_age_seconds > 600",
        "5m",
        _PAGE,
        "A job of pool {{ $labels.pool }} has waited for ten minutes",
        "It has no runner yet. orchestrator_job_waiting says why.",
    ),
    Alert(
        "OrchestratorPoolFull",
        'orchestrator_job_waiting{reason="pool_full"} > 0',
        "30m",
        _TICKET,
        "Pool {{ $labels.pool }} has been full for half an hour",
        "Jobs wait for a place all the time: the pool is too small for its work.",
    ),
    Alert(
        "OrchestratorBackendUnavailable",
        'orchestrator_job_waiting{reason="backend_unavailable"} > 0',
        "5m",
        _PAGE,
        "Pool {{ $labels.pool }} can have no runner",
        "The backend does not answer, or refuses for now.",
    ),
    Alert(
        "OrchestratorRunnersDoNotStart",
        f'orchestrator_job_waiting{{reason=~"{_STUCK}"}} > 0',
        "10m",
        _TICKET,
        "Runners of pool {{ $labels.pool }} do not start: {{ $labels.reason }}",
        "They were asked for and do not come up.",
    ),
    Alert(
        "OrchestratorGuardMissing",
        "orchestrator_pool_guards_missing > 0",
        "5m",
        _PAGE,
        "Pool {{ $labels.pool }} lacks guards of the cluster",
        "A protected pool gets no new runner until they are there; any other has less protection than it should.",
    ),
    Alert(
        "OrchestratorStartSlow",
        "histogram_quantile(0.95, sum by (job, pool, le) (rate(orchestrator_job_start_duration_seconds_bucket[30m])))"
        f" > 120 and {increase('orchestrator_job_start_duration_seconds_count', '30m', 'job, pool')} > 10",
        "15m",
        _TICKET,
        "One in twenty jobs of pool {{ $labels.pool }} takes more than two minutes to start",
        "From the offer to the bound runner, over half an hour.",
    ),
    Alert(
        "OrchestratorJobErrors",
        f"{_ERRORS} > 3 and {_ERRORS} / {increase(_ENDED, '30m', 'job, pool')} > 0.05",
        "0m",
        _PAGE,
        "More than one in twenty jobs of pool {{ $labels.pool }} fails by our fault",
        "Red tests are not among them: these are errors of the machine, the cluster or ours.",
    ),
    Alert(
        "OrchestratorAlarm",
        grew("orchestrator_alarm_total", "10m"),
        "0m",
        _PAGE,
        "Something happened that must not happen: {{ $labels.alarm }}",
        "The job's record tells the details.",
    ),
    Alert(
        "OrchestratorOrphansDeleted",
        "increase(orchestrator_orphan_deleted_total[1h]) > 0",
        "0m",
        _TICKET,
        "Runners of no job were found, and deleted",
        "Nothing is left of them. That there were any is a defect or somebody's doing.",
    ),
)

ACCESS: Final = (
    Alert(
        "OrchestratorPolicyReloadRefused",
        "orchestrator_policy_reload_failed == 1",
        "5m",
        _TICKET,
        "The policy bundle on disk was refused",
        "An older one is in force.",
    ),
    Alert(
        "OrchestratorSettingsReloadRefused",
        "orchestrator_settings_reload_failed == 1",
        "5m",
        _TICKET,
        "The settings on disk were refused",
        "The older ones are in force. A restart would not come up.",
    ),
    Alert(
        "OrchestratorTrustReloadRefused",
        "orchestrator_trust_reload_failed == 1",
        "5m",
        _TICKET,
        "The trust map on disk was refused",
        "An older one is in force.",
    ),
    Alert(
        "OrchestratorDenialsJumped",
        "orchestrator_policy_deny_jump == 1",
        "0m",
        _PAGE,
        "A new policy bundle denies far more than the one before it",
        "Either it is wrong, or many jobs were let in that should not have been.",
    ),
    Alert(
        "OrchestratorPolicyFails",
        f"sum by (job, error_type) ({grown(_POLICY, '15m')}) > 0",
        "0m",
        _PAGE,
        "Policy gives no answer: {{ $labels.error_type }}",
        "What gets no answer is denied.",
    ),
    Alert(
        "OrchestratorDecisionsLost",
        "increase(orchestrator_policy_log_lost_total[10m]) > 0 or orchestrator_policy_log_healthy == 0",
        "0m",
        _TICKET,
        "Decisions cannot be kept for replay",
        "Jobs go on, and the audit log has their decisions; the log of decisions has gaps.",
    ),
    Alert(
        "OrchestratorTokensRefused",
        f"sum by (job, reason) ({grown(_REFUSED, '15m')}) > 20",
        "0m",
        _TICKET,
        "Many token requests are refused: {{ $labels.reason }}",
        "A changed trust map, a pipeline that asks for what it may not have, or somebody who tries.",
    ),
    Alert(
        "OrchestratorExceptionReviewOverdue",
        "orchestrator_exception_review_overdue > 0",
        "1h",
        _TICKET,
        "Exceptions were used and not reviewed in time",
        "A break-glass or an override counts until somebody has looked.",
    ),
    Alert(
        "OrchestratorExceptionsFrequent",
        f"({_USES} > 3) unless {_USES} <= 0.05 * {increase('orchestrator_policy_decision_total', '1d')}"
        f" unless {_USES} <= 0.05 * {increase('orchestrator_deployment_allowed_total', '1d')}",
        "0m",
        _TICKET,
        "More than one in twenty decisions of the last day stood on an exception",
        "Each was signed and is an alarm of its own. That there are so many makes the exception the rule.",
    ),
    Alert(
        "OrchestratorTraceabilityFell",
        "orchestrator_artifact_traced_ratio < max_over_time(orchestrator_artifact_traced_ratio[7d]) - 0.05",
        "1h",
        _TICKET,
        "Fewer artifacts than in the week before are traceable ({{ $labels.what }})",
        "A signature, an SBOM or provenance is missing or cannot be verified for more of them than there was.",
    ),
    Alert(
        "OrchestratorSecretOverdue",
        "orchestrator_secret_overdue == 1 or orchestrator_secret_failing == 1",
        "1h",
        _TICKET,
        "The static secret {{ $labels.secret }} is too old, or its rotation fails",
        "It is older than its bound allows, has no value, or a step of its rotation fails.",
    ),
)
