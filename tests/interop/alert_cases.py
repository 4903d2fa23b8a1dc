"""When each alert fires: what Prometheus is given, a value a minute, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """`series` to values in promtool's notation, `at` which minute to look. `labels` are those of the alert besides
    `alertname` and `severity`; several where one rule fires for more than one thing."""

    alert: str
    series: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    at: int = 60


_J = {"job": "orchestrator"}
_P = _J | {"pool": "default"}
_S = _J | {"source": "octo", "set": "linux"}
_UP = {'orchestrator_build_info{job="orchestrator",version="1"}': "1x120"}
_API = 'orchestrator_kubernetes_request_duration_seconds_count{job="orchestrator",resource="pods",'
_ENDED = 'orchestrator_job_duration_seconds_count{job="orchestrator",pool="default",'
_SYSTEM = 'cicd_system_errors_total{job="orchestrator",'
_REFUSED = 'orchestrator_token_request_total{job="orchestrator",outcome="refused",'
_LIMIT = 'orchestrator_source_rate_limit{job="orchestrator",source="octo",'
_LEFT = 'orchestrator_source_rate_limit_remaining{job="orchestrator",source="octo",'
_RENEWED = 'orchestrator_source_rate_limit_reset_timestamp_seconds{job="orchestrator",source="octo",'
_USES = 'orchestrator_exception_use_total{job="orchestrator"}'
_DECIDED = 'orchestrator_policy_decision_total{job="orchestrator",stage="admission",verdict="allow"}'
_TRACES = 'orchestrator_trace_{}{{job="orchestrator"}}'
_HALF = "0+30x120"
"""Half an observation a second, all of them slower than the largest bound."""

FIRING = (
    Case("OrchestratorDown", {"some_other_metric": "1x120"}),
    Case(
        "OrchestratorDown",
        _UP | {'orchestrator_build_info{job="other",version="1"}': "1x20 _x100"},
        {"job": "other"},
    ),
    Case(
        "OrchestratorCheckFailing",
        {'orchestrator_check_ok{job="orchestrator",check="journal"}': "0x120"},
        _J | {"check": "journal"},
    ),
    Case(
        "OrchestratorJobsWaitTooLong",
        {'orchestrator_queue_oldest_age_seconds{job="orchestrator",pool="default"}': "0+60x120"},
        _P,
    ),
    Case(
        "OrchestratorPoolFull",
        {'orchestrator_job_waiting{job="orchestrator",pool="default",reason="pool_full"}': "1x120"},
        _P | {"reason": "pool_full"},
    ),
    Case(
        "OrchestratorBackendUnavailable",
        {'orchestrator_job_waiting{job="orchestrator",pool="default",reason="backend_unavailable"}': "2x120"},
        _P | {"reason": "backend_unavailable"},
    ),
    Case(
        "OrchestratorRunnersDoNotStart",
        {'orchestrator_job_waiting{job="orchestrator",pool="default",reason="image_pull"}': "1x120"},
        _P | {"reason": "image_pull"},
    ),
    Case(
        "OrchestratorGuardMissing",
        {'orchestrator_pool_guards_missing{job="orchestrator",pool="default"}': "1x120"},
        _P,
    ),
    Case(
        "OrchestratorStartSlow",
        {
            'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="default",le="120"}': "0x120",
            'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="default",le="300"}': _HALF,
            'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="default",le="+Inf"}': _HALF,
            'orchestrator_job_start_duration_seconds_count{job="orchestrator",pool="default"}': _HALF,
        },
        _P,
    ),
    Case(
        "OrchestratorJobErrors",
        {
            _ENDED + 'result="error"}': "0+1x120",
            _ENDED + 'result="success"}': "0+9x120",
        },
        _P,
    ),
    Case("OrchestratorJobErrors", {_ENDED + 'result="error"}': "0x55 40x60"}, _P),
    Case(
        "OrchestratorAlarm",
        {'orchestrator_alarm_total{job="orchestrator",alarm="second_claim"}': "0x55 1x60"},
        _J | {"alarm": "second_claim"},
    ),
    Case(
        "OrchestratorAlarm",
        {'orchestrator_alarm_total{job="orchestrator",alarm="unheard_of"}': "_x55 1x60"},
        _J | {"alarm": "unheard_of"},
    ),
    Case("OrchestratorOrphansDeleted", {'orchestrator_orphan_deleted_total{job="orchestrator"}': "0x40 1x60"}, _J),
    Case("OrchestratorPolicyReloadRefused", {'orchestrator_policy_reload_failed{job="orchestrator"}': "1x120"}, _J),
    Case("OrchestratorSettingsReloadRefused", {'orchestrator_settings_reload_failed{job="orchestrator"}': "1x120"}, _J),
    Case("OrchestratorTrustReloadRefused", {'orchestrator_trust_reload_failed{job="orchestrator"}': "1x120"}, _J),
    Case("OrchestratorDenialsJumped", {'orchestrator_policy_deny_jump{job="orchestrator"}': "1x120"}, _J),
    Case(
        "OrchestratorPolicyFails",
        {_SYSTEM + 'cicd_system_component="policy",error_type="policy_error"}': "0+1x120"},
        _J | {"error_type": "policy_error"},
    ),
    Case(
        "OrchestratorPolicyFails",
        {_SYSTEM + 'cicd_system_component="policy",error_type="policy_undefined"}': "_x55 1x60"},
        _J | {"error_type": "policy_undefined"},
    ),
    Case("OrchestratorDecisionsLost", {'orchestrator_policy_log_lost_total{job="orchestrator"}': "0+1x120"}, _J),
    Case("OrchestratorDecisionsLost", {'orchestrator_policy_log_healthy{job="orchestrator"}': "0x120"}, _J),
    Case(
        "OrchestratorTokensRefused",
        {_REFUSED + 'reason="policy_denied"}': "0+3x120"},
        _J | {"reason": "policy_denied"},
    ),
    Case(
        "OrchestratorTokensRefused",
        {_REFUSED + 'reason="trust_denied"}': "_x55 25x60"},
        _J | {"reason": "trust_denied"},
    ),
    Case("OrchestratorExceptionsFrequent", {_USES: "0+1x120", _DECIDED: "0+10x120"}, _J),
    Case(
        "OrchestratorExceptionsFrequent",
        {_USES: "0x30 9x90", 'orchestrator_deployment_allowed_total{job="orchestrator"}': "0+1x120"},
        _J,
    ),
    Case(
        "OrchestratorTraceabilityFell",
        {'orchestrator_artifact_traced_ratio{job="orchestrator",what="deploys"}': "0.98x20 0.9x200"},
        _J | {"what": "deploys"},
        90,
    ),
    Case(
        "OrchestratorExceptionReviewOverdue",
        {'orchestrator_exception_review_overdue{job="orchestrator"}': "1x120"},
        _J,
        90,
    ),
    Case(
        "OrchestratorSecretOverdue",
        {'orchestrator_secret_overdue{job="orchestrator",secret="deploy-key"}': "1x120"},
        _J | {"secret": "deploy-key"},
        90,
    ),
    Case(
        "OrchestratorSourceFailing",
        {'orchestrator_source_failing{job="orchestrator",source="octo",set="linux"}': "1x120"},
        _S,
    ),
    Case(
        "OrchestratorSourceSilent",
        {'orchestrator_source_heard_timestamp_seconds{job="orchestrator",source="octo",set="linux"}': "60x120"},
        _S,
    ),
    Case(
        "OrchestratorSourceContradiction",
        {'orchestrator_source_event_total{job="orchestrator",source="octo",event="foreign"}': "_x55 1x60"},
        _J | {"source": "octo", "event": "foreign"},
    ),
    Case(
        "OrchestratorRateLimitLow",
        {
            _LEFT + 'resource="core"}': "100x120",
            _LIMIT + 'resource="core"}': "5000x120",
            _RENEWED + 'resource="core"}': "7200x120",
        },
        _J | {"source": "octo", "resource": "core"},
    ),
    Case(
        "OrchestratorKubernetesApiErrors",
        {
            _API + 'verb="list",status="none"}': "0+1x120",
            _API + 'verb="create",status="2xx"}': "0+4x120",
        },
        _J,
    ),
    Case(
        "OrchestratorGatewayStale",
        {'orchestrator_gateway_table_fresh{job="orchestrator-gateway",instance="10.0.0.7:8457"}': "0x120"},
        {"job": "orchestrator-gateway", "instance": "10.0.0.7:8457"},
    ),
    Case(
        "OrchestratorGatewayStale",
        {'orchestrator_gateway_table_fresh{job="orchestrator-gateway",instance="10.0.0.7:8457"}': "1x40 _x80"},
        {"job": "orchestrator-gateway"},
    ),
    Case(
        "OrchestratorGatewayVerdictsLost",
        {'orchestrator_gateway_verdict_lost_total{job="orchestrator-gateway",instance="10.0.0.7:8457"}': "0+1x120"},
        {"job": "orchestrator-gateway", "instance": "10.0.0.7:8457"},
    ),
    Case(
        "OrchestratorGatewayCredentialMisused",
        {'orchestrator_gateway_credential_misuse_total{job="orchestrator-gateway"}': "0x55 1x60"},
        {"job": "orchestrator-gateway"},
    ),
    Case("OrchestratorJournalUnhealthy", {'orchestrator_journal_healthy{job="orchestrator"}': "0x120"}, _J),
    Case(
        "OrchestratorJournalSlow",
        {
            'orchestrator_journal_append_duration_seconds_bucket{job="orchestrator",le="1"}': "0x120",
            'orchestrator_journal_append_duration_seconds_bucket{job="orchestrator",le="2.5"}': _HALF,
            'orchestrator_journal_append_duration_seconds_bucket{job="orchestrator",le="+Inf"}': _HALF,
        },
        _J,
    ),
    Case("OrchestratorJournalLags", {'orchestrator_journal_lag_facts{job="orchestrator"}': "0x40 3x60"}, _J),
    Case("OrchestratorAuditUnhealthy", {'orchestrator_audit_healthy{job="orchestrator"}': "0x120"}, _J),
    Case("OrchestratorAuditUnanchored", {'orchestrator_audit_unanchored_seconds{job="orchestrator"}': "0+60x120"}, _J),
    Case(
        "OrchestratorTracesStuck",
        {_TRACES.format("outbox_jobs"): "501x120", _TRACES.format("exported_total"): "0+1x120"},
        _J,
    ),
    Case(
        "OrchestratorTracesStuck",
        {_TRACES.format("outbox_jobs"): "0x20 1x100", _TRACES.format("exported_total"): "7x120"},
        _J,
        90,
    ),
    Case("OrchestratorTracesLost", {_TRACES.format("refused_total"): "0x50 1x70"}, _J),
    Case("OrchestratorTracesLost", {_TRACES.format("items_rejected_total"): "0x50 3x70"}, _J),
    Case("OrchestratorTracesLost", {_TRACES.format("events_refused_total"): "0x50 1x70"}, _J),
    Case(
        "OrchestratorNotificationsFailing",
        {'orchestrator_notification_endpoint_disabled{job="orchestrator",endpoint="chat"}': "1x120"},
        _J | {"endpoint": "chat"},
    ),
    Case(
        "OrchestratorNotificationsDropped",
        {'orchestrator_notification_dropped_total{job="orchestrator",endpoint="chat"}': "0x55 1x60"},
        _J | {"endpoint": "chat"},
    ),
    Case(
        "OrchestratorEventLoopLate",
        {
            'orchestrator_event_loop_lag_seconds_bucket{job="orchestrator",le="0.1"}': "0x120",
            'orchestrator_event_loop_lag_seconds_bucket{job="orchestrator",le="0.25"}': _HALF,
            'orchestrator_event_loop_lag_seconds_bucket{job="orchestrator",le="+Inf"}': _HALF,
        },
        _J,
    ),
)

WELL = _UP | {
    'orchestrator_check_ok{job="orchestrator",check="journal"}': "1x120",
    'orchestrator_check_ok{job="orchestrator",check="intake"}': "0x120",
    'orchestrator_queue_oldest_age_seconds{job="orchestrator",pool="default"}': "30x120",
    'orchestrator_job_waiting{job="orchestrator",pool="default",reason="pool_full"}': "1x20 0x2 1x20 0x2 1x20 0x80",
    'orchestrator_job_waiting{job="orchestrator",pool="default",reason="backend_unavailable"}': "0x50 1x3 0x60",
    'orchestrator_job_waiting{job="orchestrator",pool="default",reason="image_pull"}': "0x120",
    'orchestrator_pool_guards_missing{job="orchestrator",pool="default"}': "0x120",
    'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="default",le="1"}': _HALF,
    'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="default",le="+Inf"}': _HALF,
    'orchestrator_job_start_duration_seconds_count{job="orchestrator",pool="default"}': _HALF,
    'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="seldom",le="120"}': "0x120",
    'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="seldom",le="300"}': "0x50 1x70",
    'orchestrator_job_start_duration_seconds_bucket{job="orchestrator",pool="seldom",le="+Inf"}': "0x50 1x70",
    'orchestrator_job_start_duration_seconds_count{job="orchestrator",pool="seldom"}': "0x50 1x70",
    _ENDED + 'result="error"}': "0x50 1x60",
    _ENDED + 'result="failure"}': "0+9x120",
    _ENDED + 'result="success"}': "0+9x120",
    _SYSTEM + 'cicd_system_component="policy",error_type="policy_error"}': "2x120",
    'orchestrator_alarm_total{job="orchestrator",alarm="second_claim"}': "0x120",
    'orchestrator_alarm_total{job="orchestrator",alarm="left_behind"}': "3x120",
    # Prometheus could not look for a while.
    'orchestrator_alarm_total{job="orchestrator",alarm="egress_unproven"}': "3x30 _x8 3x80",
    'orchestrator_orphan_deleted_total{job="orchestrator"}': "0x120",
    'orchestrator_policy_reload_failed{job="orchestrator"}': "0x120",
    'orchestrator_trust_reload_failed{job="orchestrator"}': "0x120",
    'orchestrator_settings_reload_failed{job="orchestrator"}': "0x120",
    'orchestrator_policy_deny_jump{job="orchestrator"}': "0x120",
    'orchestrator_policy_log_lost_total{job="orchestrator"}': "0x120",
    'orchestrator_policy_log_healthy{job="orchestrator"}': "1x120",
    _REFUSED + 'reason="policy_denied"}': "0+1x120",
    _REFUSED + 'reason="key_unknown"}': "_x50 3x70",
    'orchestrator_token_request_total{job="orchestrator",outcome="issued",reason=""}': "0+50x120",
    'orchestrator_exception_review_overdue{job="orchestrator"}': "0x120",
    'orchestrator_secret_overdue{job="orchestrator",secret="deploy-key"}': "0x120",
    'orchestrator_secret_failing{job="orchestrator",secret="deploy-key"}': "0x120",
    'orchestrator_source_failing{job="orchestrator",source="octo",set="linux"}': "0x120",
    'orchestrator_source_heard_timestamp_seconds{job="orchestrator",source="octo",set="linux"}': "0+60x120",
    'orchestrator_source_heard_timestamp_seconds{job="orchestrator",source="octo",set="new"}': "0x120",
    'orchestrator_source_event_total{job="orchestrator",source="octo",event="polls"}': "_x55 1+1x60",
    _LEFT + 'resource="core"}': "4000x120",
    _LIMIT + 'resource="core"}': "5000x120",
    _RENEWED + 'resource="core"}': "9000x120",
    # Almost used up before the night, and nobody has asked since the limit was renewed.
    _LEFT + 'resource="graphql"}': "10x120",
    _LIMIT + 'resource="graphql"}': "5000x120",
    _RENEWED + 'resource="graphql"}': "60x120",
    _API + 'verb="get",status="4xx"}': "0+5x120",
    _API + 'verb="get",status="2xx"}': "0+5x120",
    'orchestrator_gateway_table_fresh{job="orchestrator-gateway",instance="10.0.0.7:8457"}': "1x120",
    'orchestrator_gateway_table_fresh{job="orchestrator-gateway",instance="10.0.0.8:8457"}': "1x20 _x100",
    'orchestrator_gateway_verdict_lost_total{job="orchestrator-gateway",instance="10.0.0.7:8457"}': "0x120",
    'orchestrator_gateway_credential_misuse_total{job="orchestrator-gateway"}': "0x120",
    'orchestrator_journal_healthy{job="orchestrator"}': "1x120",
    'orchestrator_journal_append_duration_seconds_bucket{job="orchestrator",le="0.01"}': _HALF,
    'orchestrator_journal_append_duration_seconds_bucket{job="orchestrator",le="+Inf"}': _HALF,
    'orchestrator_journal_lag_facts{job="orchestrator"}': "2 0 2 0 2 0 2 0x50 2x3 0x60",
    'orchestrator_audit_healthy{job="orchestrator"}': "1x120",
    'orchestrator_audit_unanchored_seconds{job="orchestrator"}': "20x120",
    'orchestrator_notification_endpoint_failing{job="orchestrator",endpoint="chat"}': "0x40 1x20 0x60",
    'orchestrator_notification_endpoint_disabled{job="orchestrator",endpoint="chat"}': "0x120",
    'orchestrator_notification_dropped_total{job="orchestrator",endpoint="chat"}': "0x120",
    _TRACES.format("outbox_jobs"): "0x20 3x70 600x10 0x20",
    _TRACES.format("exported_total"): "0+1x120",
    _TRACES.format("refused_total"): "4x120",
    _TRACES.format("items_rejected_total"): "0x120",
    _TRACES.format("events_refused_total"): "0x120",
    _USES: "0+1x5 5x115",
    _DECIDED: "0+20x120",
    'orchestrator_artifact_traced_ratio{job="orchestrator",what="deploys"}': "0.98x60 0.95x60",
    'orchestrator_event_loop_lag_seconds_bucket{job="orchestrator",le="0.005"}': _HALF,
    'orchestrator_event_loop_lag_seconds_bucket{job="orchestrator",le="+Inf"}': _HALF,
}
"""A daemon that is well, with all that happens on a good day: nothing fires."""
