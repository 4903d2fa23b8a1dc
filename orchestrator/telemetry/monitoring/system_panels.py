"""The dashboard's lower rows: access, the platforms around, and the daemon itself."""

from __future__ import annotations

from typing import Final

from orchestrator.telemetry.monitoring.job_panels import ENDINGS, NOW, RUNNERS, STARTING, WAITING
from orchestrator.telemetry.monitoring.panel import Kind, Panel, Query, Row, quantiles, rate

ACCESS: Final = Row(
    "Policy, tokens, egress",
    (
        Panel(
            "Decisions",
            "By stage and verdict.",
            (Query(rate("orchestrator_policy_decision_total", "stage, verdict", "$J"), "{{stage}} {{verdict}}"),),
            unit="ops",
        ),
        Panel(
            "Why policy denied",
            "By the rule's code.",
            (Query(rate("orchestrator_policy_denied_total", "code", "$J"), "{{code}}"),),
            unit="ops",
        ),
        Panel(
            "Would be denied, or was set aside",
            "Rules that are only watched, and requirements that an exception set aside.",
            (
                Query(rate("orchestrator_policy_observed_total", "code", "$J"), "watched: {{code}}"),
                Query(rate("orchestrator_policy_waived_total", "code", "$J"), "set aside: {{code}}"),
            ),
            unit="ops",
        ),
        Panel(
            "How long policy takes",
            "Lookups of evidence included.",
            quantiles("orchestrator_policy_decision_duration_seconds", "$J"),
            unit="s",
        ),
        Panel(
            "Token requests",
            "By what became of them.",
            (Query(rate("orchestrator_token_request_total", "outcome, reason", "$J"), "{{outcome}} {{reason}}"),),
            unit="ops",
        ),
        Panel(
            "Egress verdicts",
            "The agents' own probes not counted.",
            (Query(rate("orchestrator_egress_decision_total", "verdict, reason"), "{{verdict}} {{reason}}"),),
            unit="ops",
        ),
        Panel(
            "Egress traffic",
            "Payload through the gateway.",
            (Query(rate("orchestrator_egress_bytes_total", "pool, direction"), "{{pool}} {{direction}}"),),
            unit="Bps",
        ),
        Panel(
            "Exceptions",
            "Open ones, and those that nobody has reviewed.",
            (
                Query("orchestrator_exception_open{$J}", "open"),
                Query("orchestrator_exception_unreviewed{$J}", "not reviewed"),
                Query("orchestrator_exception_review_overdue{$J}", "overdue"),
            ),
        ),
        Panel(
            "Static secrets",
            "Age as a share of what is allowed.",
            (Query("orchestrator_secret_age_seconds{$J} / orchestrator_secret_max_age_seconds", "{{secret}}"),),
            unit="percentunit",
        ),
    ),
)

KUBERNETES: Final = Row(
    "Kubernetes API",
    (
        Panel(
            "Requests",
            "By verb and resource.",
            (
                Query(
                    rate("orchestrator_kubernetes_request_duration_seconds_count", "verb, resource", "$J"),
                    "{{verb}} {{resource}}",
                ),
            ),
            unit="reqps",
        ),
        Panel(
            "Failed and repeated",
            "api_not_found and api_conflict are part of the conversation.",
            (
                Query(rate("orchestrator_kubernetes_request_failed_total", "reason", "$J"), "{{reason}}"),
                Query(rate("orchestrator_kubernetes_request_retry_total", "reason", "$J"), "again: {{reason}}"),
            ),
            unit="reqps",
        ),
        Panel(
            "Time of an answer",
            "Until its head.",
            quantiles("orchestrator_kubernetes_request_duration_seconds", "$J"),
            unit="s",
        ),
    ),
    collapsed=True,
)

SOURCES: Final = Row(
    "Sources of jobs",
    (
        Panel(
            "Jobs by the platform's count",
            "assigned includes running.",
            (Query("sum by (source, state) (orchestrator_source_jobs{$J})", "{{source}} {{state}}"),),
        ),
        Panel(
            "Wait by the platform's clock",
            "From its queue until a runner of ours had the job.",
            quantiles("orchestrator_source_job_wait_seconds", "$J"),
            unit="s",
        ),
        Panel(
            "Failing",
            "Sources, or sets of them, that do not work.",
            (Query("orchestrator_source_failing{$J} > 0", "{{source}} {{set}}"),),
            alarming=True,
        ),
        Panel(
            "Requests to platforms",
            "By class of answer.",
            (Query(rate("orchestrator_source_call_total", "source, status", "$J"), "{{source}} {{status}}"),),
            unit="reqps",
        ),
        Panel(
            "Left of the platform's limit",
            "As a share.",
            (
                Query(
                    "orchestrator_source_rate_limit_remaining{$J} / orchestrator_source_rate_limit",
                    "{{source}} {{resource}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            "Runners short or withheld",
            "Wanted and not begun; kept back by the set's own bound.",
            (
                Query("sum by (source) (orchestrator_source_short_runners{$J})", "{{source}} short"),
                Query("sum by (source) (orchestrator_source_withheld_runners{$J})", "{{source}} withheld"),
            ),
        ),
    ),
    collapsed=True,
)

GATEWAYS: Final = Row(
    "Egress gateways of a cluster",
    (
        Panel(
            "Connections",
            "Open ones, by gateway.",
            (Query("orchestrator_gateway_connections", "{{instance}}"),),
        ),
        Panel(
            "Verdicts and strangers",
            "Connections from addresses of no runner are strangers'.",
            (
                Query(rate("orchestrator_gateway_connection_total", "verdict", ""), "{{verdict}}"),
                Query(rate("orchestrator_gateway_stranger_total", "reason", ""), "stranger: {{reason}}"),
            ),
            unit="ops",
        ),
        Panel(
            "Table fresh, verdicts waiting",
            "A gateway without a fresh table lets nobody through.",
            (
                Query("orchestrator_gateway_table_fresh", "{{instance}} fresh"),
                Query("orchestrator_gateway_verdicts_waiting", "{{instance}} waiting"),
            ),
        ),
    ),
    collapsed=True,
)

DAEMON: Final = Row(
    "The daemon",
    (
        Panel(
            "Event loop",
            "How late it wakes a sleeper.",
            quantiles("orchestrator_event_loop_lag_seconds", "$J"),
            unit="s",
        ),
        Panel(
            "Storing a fact",
            "Until it is durable, and in the audit log.",
            quantiles("orchestrator_journal_append_duration_seconds", "$J"),
            unit="s",
        ),
        Panel(
            "What waits to be written or sent",
            "All of it should be near 0.",
            (
                Query("orchestrator_journal_queue_depth{$J}", "journal"),
                Query("orchestrator_journal_lag_facts{$J}", "facts that wait for the audit log"),
                Query("orchestrator_audit_queue_depth{$J}", "audit log"),
                Query("orchestrator_trace_outbox_jobs{$J}", "traces"),
                Query("sum(orchestrator_notification_outbox_messages{$J})", "notifications"),
            ),
        ),
        Panel(
            "Audit log",
            "Records without a signed checkpoint, and for how long no anchor has the newest one.",
            (
                Query("orchestrator_audit_uncovered_records{$J}", "records uncovered"),
                Query("orchestrator_audit_unanchored_seconds{$J}", "seconds unanchored"),
            ),
        ),
        Panel(
            "Notifications",
            "By endpoint: taken, failed tries, given up.",
            (
                Query(rate("orchestrator_notification_delivered_total", "endpoint", "$J"), "{{endpoint}} taken"),
                Query(rate("orchestrator_notification_failed_total", "endpoint", "$J"), "{{endpoint}} failed"),
                Query(rate("orchestrator_notification_dropped_total", "endpoint", "$J"), "{{endpoint}} given up"),
            ),
            unit="ops",
        ),
        Panel(
            "Traces",
            "Jobs whose trace was taken, and what is lost of others.",
            (
                Query(rate("orchestrator_trace_exported_total", "job", "$J"), "taken"),
                Query(rate("orchestrator_trace_refused_total", "job", "$J"), "refused"),
                Query(rate("orchestrator_trace_items_rejected_total", "job", "$J"), "spans and events left out"),
                Query(rate("orchestrator_trace_events_refused_total", "job", "$J"), "without events"),
            ),
            unit="ops",
        ),
        Panel(
            "Requests to the API",
            "By status; streams are not among them.",
            (
                Query(
                    rate("http_server_request_duration_seconds_count", "http_response_status_code", "$J"),
                    "{{http_response_status_code}}",
                ),
            ),
            unit="reqps",
        ),
        Panel(
            "Time of a request",
            "Of the daemon's API.",
            quantiles("http_server_request_duration_seconds", "$J"),
            unit="s",
        ),
        Panel(
            "Processor",
            "Cores in use.",
            (Query("rate(process_cpu_seconds_total{$J}[$__rate_interval])", "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident.",
            (Query("process_resident_memory_bytes{$J}", "{{instance}}"),),
            unit="bytes",
        ),
        Panel(
            "Versions",
            "What runs.",
            (Query("orchestrator_build_info{$J}"),),
            Kind.TABLE,
        ),
    ),
)

ROWS: Final = (NOW, WAITING, STARTING, RUNNERS, ENDINGS, ACCESS, KUBERNETES, SOURCES, GATEWAYS, DAEMON)
