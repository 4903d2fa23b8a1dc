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

K8S_NAMESPACE_NAME: Final = "k8s.namespace.name"
K8S_POD_NAME: Final = "k8s.pod.name"
K8S_POD_UID: Final = "k8s.pod.uid"
K8S_NODE_NAME: Final = "k8s.node.name"
CONTAINER_IMAGE_NAME: Final = "container.image.name"
CONTAINER_IMAGE_TAGS: Final = "container.image.tags"
CONTAINER_IMAGE_REPO_DIGESTS: Final = "container.image.repo_digests"

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
CICD_WORKER_STATE: Final = "cicd.worker.state"
CICD_SYSTEM_COMPONENT: Final = "cicd.system.component"

STATE_PENDING: Final = "pending"
STATE_EXECUTING: Final = "executing"
STATE_FINALIZING: Final = "finalizing"
WORKER_AVAILABLE: Final = "available"
WORKER_BUSY: Final = "busy"
WORKER_OFFLINE: Final = "offline"
RESULT_SKIP: Final = "skip"
ACTION_RUN: Final = "RUN"

OWN: Final = "orchestrator."
"""Prefix of everything the conventions have no name for."""
