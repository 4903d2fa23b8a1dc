"""Alerts about platforms, clusters, gateways and the daemon itself. Each has a runbook in docs/how-to/sre-guide.md."""

from __future__ import annotations

from typing import Final

from orchestrator.telemetry.monitoring.alert import Alert, Severity, gone, grew, increase, ratio
from orchestrator.telemetry.monitoring.job_alerts import ACCESS, JOBS

_API: Final = "orchestrator_kubernetes_request_duration_seconds_count"
_LOST: Final = (
    "orchestrator_trace_refused_total",
    "orchestrator_trace_items_rejected_total",
    "orchestrator_trace_events_refused_total",
)
_FRESH: Final = "orchestrator_gateway_table_fresh"
_APPEND: Final = "rate(orchestrator_journal_append_duration_seconds_bucket[5m])"
_PAGE, _TICKET = Severity.PAGE, Severity.TICKET

PLATFORMS: Final = (
    Alert(
        "OrchestratorSourceFailing",
        "orchestrator_source_failing == 1",
        "10m",
        _PAGE,
        "Source {{ $labels.source }} {{ $labels.set }} does not work",
        "Its platform's jobs do not come in, or their ends cannot be told.",
    ),
    Alert(
        "OrchestratorSourceSilent",
        "time() - (orchestrator_source_heard_timestamp_seconds > 0) > 600",
        "5m",
        _PAGE,
        "Source {{ $labels.source }} {{ $labels.set }} has heard nothing for ten minutes",
        "The platform answers polls within a minute, even when there is nothing to tell.",
    ),
    Alert(
        "OrchestratorSourceContradiction",
        grew('orchestrator_source_event_total{event=~"mismatches|foreign|leftovers"}', "10m"),
        "0m",
        _PAGE,
        "Source {{ $labels.source }} met what must not be: {{ $labels.event }}",
        "What the platform says and what we know do not fit together, or something of ours was left behind.",
    ),
    Alert(
        "OrchestratorRateLimitLow",
        "orchestrator_source_rate_limit_remaining / orchestrator_source_rate_limit < 0.1"
        " and orchestrator_source_rate_limit_reset_timestamp_seconds > time()",
        "5m",
        _TICKET,
        "Source {{ $labels.source }} has used up its platform's limit {{ $labels.resource }}",
        "When nothing is left no job is registered until the limit is renewed.",
    ),
    Alert(
        "OrchestratorKubernetesApiErrors",
        ratio(f'{_API}{{status=~"5xx|none"}}', _API, 0.1),
        "10m",
        _PAGE,
        "One in ten requests to the Kubernetes API fails",
        "Pods are made and deleted late, or not at all.",
    ),
    Alert(
        "OrchestratorGatewayStale",
        f"{_FRESH} == 0 or {gone(_FRESH)}",
        "2m",
        _PAGE,
        "Egress gateway {{ $labels.instance }} has no fresh table of runners, or none answers",
        "It lets nobody through.",
    ),
    Alert(
        "OrchestratorGatewayVerdictsLost",
        "increase(orchestrator_gateway_verdict_lost_total[10m]) > 0",
        "0m",
        _TICKET,
        "Egress gateway {{ $labels.instance }} lost verdicts",
        "What jobs were allowed or denied is not complete in their records.",
    ),
    Alert(
        "OrchestratorGatewayCredentialMisused",
        "increase(orchestrator_gateway_credential_misuse_total[10m]) > 0",
        "0m",
        _PAGE,
        "A runner's proxy credential came from elsewhere",
        "It was refused. Somebody has it who should not.",
    ),
)

DAEMON: Final = (
    Alert(
        "OrchestratorJournalUnhealthy",
        "orchestrator_journal_healthy == 0",
        "1m",
        _PAGE,
        "The journal cannot store facts",
        "Nothing is taken in, begun or ended.",
    ),
    Alert(
        "OrchestratorJournalSlow",
        f"histogram_quantile(0.99, sum by (job, le) ({_APPEND})) > 1",
        "10m",
        _TICKET,
        "Storing a fact takes more than a second",
        "Every step of every job waits for it: the disk is slow, or the audit log behind.",
    ),
    Alert(
        "OrchestratorJournalLags",
        "orchestrator_journal_lag_facts > 0",
        "5m",
        _PAGE,
        "Facts are stored and do not reach the audit log",
        "Nothing follows from them until they do.",
    ),
    Alert(
        "OrchestratorAuditUnhealthy",
        "orchestrator_audit_healthy == 0",
        "1m",
        _PAGE,
        "The audit log takes no records",
        "Nothing is decided, granted or ended.",
    ),
    Alert(
        "OrchestratorAuditUnanchored",
        "orchestrator_audit_unanchored_seconds > 300",
        "0m",
        _TICKET,
        "No anchor has taken the newest checkpoint",
        "Who holds this machine could rewrite the newest records; with audit.anchor_required_seconds work will stop.",
    ),
    Alert(
        "OrchestratorTracesStuck",
        "orchestrator_trace_outbox_jobs > 500 or "
        "(orchestrator_trace_outbox_jobs > 0 and increase(orchestrator_trace_exported_total[30m]) == 0)",
        "30m",
        _TICKET,
        "Traces do not leave",
        "The receiver does not take them. They wait in the journal.",
    ),
    Alert(
        "OrchestratorTracesLost",
        " or ".join(f"{increase(counter, '1h')} > 0" for counter in _LOST),
        "0m",
        _TICKET,
        "Traces of jobs are lost, or parts of them",
        "The receiver refused them for good, or they cannot be made. The journal has the facts still.",
    ),
    Alert(
        "OrchestratorNotificationsFailing",
        "orchestrator_notification_endpoint_failing == 1 or orchestrator_notification_endpoint_disabled == 1",
        "30m",
        _TICKET,
        "The endpoint {{ $labels.endpoint }} takes no notifications",
        "What is for it waits on disk, as long as its bounds allow; after an answer of 410 nothing is sent at all.",
    ),
    Alert(
        "OrchestratorNotificationsDropped",
        grew("orchestrator_notification_dropped_total", "10m"),
        "0m",
        _TICKET,
        "Notifications for the endpoint {{ $labels.endpoint }} were given up",
        "They were too many or too old. Nobody will get them.",
    ),
    Alert(
        "OrchestratorEventLoopLate",
        "histogram_quantile(0.99, sum by (job, le) (rate(orchestrator_event_loop_lag_seconds_bucket[5m]))) > 0.1",
        "10m",
        _TICKET,
        "The daemon's event loop is late",
        "The machine is overloaded, or something blocks the loop.",
    ),
)

GROUPS: Final = {"jobs": JOBS, "access": ACCESS, "platforms": PLATFORMS, "daemon": DAEMON}
ALERTS: Final = tuple(alert for group in GROUPS.values() for alert in group)
