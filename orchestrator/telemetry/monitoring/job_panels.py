"""The dashboard's upper rows, about jobs and runners: what people ask first stands first."""

from __future__ import annotations

from typing import Final

from orchestrator.telemetry.monitoring.panel import Panel, Query, Row, heatmap, quantile, quantiles, rate, stat

NOW: Final = Row(
    "Now",
    (
        stat("Without a runner", "Jobs that wait for one.", "sum(orchestrator_queue_depth{$P})"),
        stat(
            "Oldest of them",
            "The best single figure: it grows when anything is wrong.",
            "max(orchestrator_queue_oldest_age_seconds{$P})",
            "s",
        ),
        stat("Running", "Jobs that have their runner.", 'sum(orchestrator_job_active{$J,state="executing"})'),
        stat(
            "Errors of ours, last hour",
            "Jobs that failed of the machine, the cluster or us. Red tests are not among them.",
            'sum(increase(orchestrator_job_duration_seconds_count{$P,result="error"}[1h]))',
            alarming=True,
        ),
        stat(
            "Alarms, last hour",
            "Things that must not happen.",
            "sum(increase(orchestrator_alarm_total{$J}[1h]))",
            alarming=True,
        ),
        stat(
            "Failing checks",
            "Of the daemon's readiness.",
            'sum(1 - orchestrator_check_ok{$J,check!="intake"})',
            alarming=True,
        ),
    ),
)

WAITING: Final = Row(
    "Why jobs wait",
    (
        Panel(
            "Jobs without a bound runner",
            "By why. pool_full is capacity; policy should be next to nothing.",
            (Query("sum by (reason) (orchestrator_job_waiting{$P}) > 0", "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Time spent waiting",
            "Job-seconds each second, which is how many jobs wait for that on average.",
            (Query(rate("orchestrator_job_wait_seconds_total", "reason"), "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Oldest job without a runner",
            "By pool.",
            (Query("orchestrator_queue_oldest_age_seconds{$P}", "{{pool}}"),),
            unit="s",
        ),
        heatmap("Time in the queue", "From the offer to the first runner.", "orchestrator_job_queue_duration_seconds"),
        heatmap("Time to start", "From the offer to the bound runner.", "orchestrator_job_start_duration_seconds"),
    ),
)

STARTING: Final = Row(
    "How long a start takes",
    (
        Panel(
            "Time to start",
            "From the offer to the bound runner.",
            quantiles("orchestrator_job_start_duration_seconds"),
            unit="s",
        ),
        Panel(
            "Stages of a runner's way, 95 of 100",
            "Of runners that were bound. Warm ones have most of it behind them.",
            (Query(quantile(0.95, "orchestrator_runner_start_stage_duration_seconds", "stage"), "{{stage}}"),),
            unit="s",
        ),
        Panel(
            "Phases of jobs, 95 of 100",
            "running is the job's own time.",
            (Query(quantile(0.95, "orchestrator_job_phase_duration_seconds", "phase"), "{{phase}}"),),
            unit="s",
        ),
    ),
)

RUNNERS: Final = Row(
    "Runners",
    (
        Panel(
            "Runners by state",
            "offline come up or are taken down; available are warm, or wait for their platform's job.",
            (Query("sum by (cicd_worker_state) (cicd_worker_count{$P})", "{{cicd_worker_state}}"),),
            stacked=True,
        ),
        Panel(
            "Pools in use",
            "Share of the capacity.",
            (Query("orchestrator_pool_used_runners{$P} / orchestrator_pool_capacity_runners", "{{pool}}"),),
            unit="percentunit",
        ),
        Panel(
            "Runners begun, gone and lost",
            "vanished went before they had work; orphans belonged to no job.",
            (
                Query(rate("orchestrator_runner_provisioned_total", "job"), "begun"),
                Query(rate("orchestrator_runner_destroyed_total", "job"), "deleted"),
                Query(rate("orchestrator_runner_vanished_total", "job"), "vanished"),
                Query(rate("orchestrator_orphan_deleted_total", "job", "$J"), "orphans"),
            ),
            unit="ops",
        ),
        Panel(
            "Guards missing",
            "Of the cluster, by pool.",
            (Query("orchestrator_pool_guards_missing{$P}", "{{pool}}"),),
            alarming=True,
        ),
        Panel(
            "Steps that failed",
            "And are tried again, if that may help.",
            (Query(rate("orchestrator_job_step_failed_total", "step, reason", "$J"), "{{step}}: {{reason}}"),),
            unit="ops",
        ),
        Panel(
            "Warm and idle",
            "Runners that are available now.",
            (Query('cicd_worker_count{$P,cicd_worker_state="available"}', "{{pool}}"),),
        ),
    ),
)

ENDINGS: Final = Row(
    "How jobs end",
    (
        Panel(
            "Results",
            "failure is the job's own doing, error is ours or the machine's.",
            (Query(rate("orchestrator_job_finished_total", "result"), "{{result}}"),),
            unit="ops",
            stacked=True,
        ),
        Panel(
            "Why jobs did not succeed",
            "By reason; docs/reference/reasons.md explains each.",
            (Query(rate("orchestrator_job_finished_total", "reason", extra=',result!="success"'), "{{reason}}"),),
            unit="ops",
        ),
        Panel(
            "Jobs from offer to end",
            "By result, 95 of 100.",
            (Query(quantile(0.95, "orchestrator_job_duration_seconds", "result"), "{{result}}"),),
            unit="s",
        ),
        Panel(
            "Dispatched runs",
            "Runs of one job, by the conventions' states.",
            (Query("sum by (cicd_pipeline_run_state) (cicd_pipeline_run_active{$J})", "{{cicd_pipeline_run_state}}"),),
        ),
        Panel(
            "Errors of the system itself",
            "Not of what it runs.",
            (
                Query(
                    rate("cicd_system_errors_total", "cicd_system_component, error_type", "$J"),
                    "{{cicd_system_component}}: {{error_type}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            "Alarms",
            "Each is a defect or an attack.",
            (Query("sum by (alarm) (increase(orchestrator_alarm_total{$J}[$__rate_interval])) > 0", "{{alarm}}"),),
            alarming=True,
        ),
    ),
)
