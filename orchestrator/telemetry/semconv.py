"""Names of attributes, as the OpenTelemetry semantic conventions write them, and our own namespace.

Copied as strings because the Python package keeps the CI/CD group in an underscore module that may change in
any release; a test holds each one against the package's constant. CI/CD is a release candidate in 1.44.0.
"""

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
ERROR_TYPE: Final = "error.type"
LOG_RECORD_UID: Final = "log.record.uid"
DEPLOYMENT_ENVIRONMENT_NAME: Final = "deployment.environment.name"

CICD_PIPELINE_NAME: Final = "cicd.pipeline.name"
CICD_PIPELINE_ACTION_NAME: Final = "cicd.pipeline.action.name"
CICD_PIPELINE_RESULT: Final = "cicd.pipeline.result"
CICD_PIPELINE_RUN_ID: Final = "cicd.pipeline.run.id"
CICD_PIPELINE_RUN_STATE: Final = "cicd.pipeline.run.state"
CICD_PIPELINE_TASK_NAME: Final = "cicd.pipeline.task.name"
CICD_PIPELINE_TASK_RUN_ID: Final = "cicd.pipeline.task.run.id"
CICD_PIPELINE_TASK_RUN_RESULT: Final = "cicd.pipeline.task.run.result"
CICD_PIPELINE_TASK_RUN_URL_FULL: Final = "cicd.pipeline.task.run.url.full"
CICD_WORKER_ID: Final = "cicd.worker.id"
CICD_WORKER_NAME: Final = "cicd.worker.name"

STATE_PENDING: Final = "pending"
STATE_EXECUTING: Final = "executing"
STATE_FINALIZING: Final = "finalizing"
RESULT_SKIP: Final = "skip"
ACTION_RUN: Final = "RUN"

OWN: Final = "orchestrator."
"""Prefix of everything the conventions have no name for."""
