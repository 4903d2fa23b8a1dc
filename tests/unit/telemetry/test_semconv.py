from opentelemetry.semconv._incubating.attributes import (
    cicd_attributes,
    container_attributes,
    deployment_attributes,
    k8s_attributes,
    log_attributes,
)
from opentelemetry.semconv._incubating.attributes import service_attributes as service
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.semconv.schemas import Schemas

from orchestrator.telemetry import semconv

SOURCES = (cicd_attributes, deployment_attributes, log_attributes, service, error_attributes)
SOURCES += (container_attributes, k8s_attributes)
VALUES = {
    "STATE_PENDING": cicd_attributes.CicdPipelineRunStateValues.PENDING.value,
    "STATE_EXECUTING": cicd_attributes.CicdPipelineRunStateValues.EXECUTING.value,
    "STATE_FINALIZING": cicd_attributes.CicdPipelineRunStateValues.FINALIZING.value,
    "WORKER_AVAILABLE": cicd_attributes.CicdWorkerStateValues.AVAILABLE.value,
    "WORKER_BUSY": cicd_attributes.CicdWorkerStateValues.BUSY.value,
    "WORKER_OFFLINE": cicd_attributes.CicdWorkerStateValues.OFFLINE.value,
    "RESULT_SKIP": cicd_attributes.CicdPipelineTaskRunResultValues.SKIP.value,
    "ACTION_RUN": cicd_attributes.CicdPipelineActionNameValues.RUN.value,
    "SCHEMA_URL": Schemas.V1_44_0.value,
}


def test_every_name_is_the_one_of_the_conventions() -> None:
    ours = {name: value for name, value in vars(semconv).items() if name.isupper() and name != "OWN"}
    theirs = {
        name: next((getattr(source, name) for source in SOURCES if hasattr(source, name)), VALUES.get(name))
        for name in ours
    }
    assert ours == theirs
    assert len(ours) > 15
