"""The daemon: one at a time, its state on a volume of its own. Pure."""

from __future__ import annotations

from orchestrator.backends.kubernetes.render.installation import (
    DAEMON,
    DAEMON_ACCOUNT,
    Document,
    Installation,
    document,
    namespace_document,
)
from orchestrator.backends.kubernetes.render.rbac import lease_documents
from orchestrator.backends.kubernetes.render.workloads import (
    SETTINGS_FOLDER,
    account,
    container,
    deployment,
    disruption_budget,
    probe,
    resources,
    service,
    settings_map,
)

NAME = "orchestrator"
SETTINGS_MAP = "orchestrator-settings"
SETTINGS_NAME = "orchestrator.yaml"
STATE_VOLUME = "/var/lib/orchestrator"
STATE_FOLDER = f"{STATE_VOLUME}/state"
"""A folder in the volume, whose own root belongs to root and to a group: not what keys may lie in."""
STATE_CLAIM = "orchestrator-state"
STOP_MARGIN_SECONDS = 30


def daemon_documents(installation: Installation) -> list[Document]:
    space = installation.namespace
    made = [
        namespace_document(installation, space, installation.labels()),
        account(installation, DAEMON_ACCOUNT, space, DAEMON),
        settings_map(installation, SETTINGS_MAP, space, DAEMON, SETTINGS_NAME, installation.settings_yaml),
        *installation.policies.get(space, ()),
        *(lease_documents(installation) if installation.lease else ()),
        _claim(installation),
        service(installation, NAME, space, DAEMON, "http", installation.api_port, installation.api_port),
    ]
    if installation.runner_api_service:
        name, port = installation.runner_api_service, installation.runner_api_url_port
        made.append(service(installation, name, space, DAEMON, "runner-api", port, installation.runner_api_port))
    if installation.gate_service:
        port, target = installation.gate_service_port, installation.gate_port
        made.append(service(installation, installation.gate_service, space, DAEMON, "admission", port, target))
    return [*made, _deployment(installation), disruption_budget(installation, NAME, space, DAEMON)]


def environment(installation: Installation) -> list[Document]:
    """What the settings do not say: where things are in the pod."""
    return [
        {"name": "ORCHESTRATOR_STATE_DIR", "value": STATE_FOLDER},
        {"name": "ORCHESTRATOR_SERVER__HOST", "value": "0.0.0.0"},  # noqa: S104 -- NetworkPolicies say who may
        {"name": "ORCHESTRATOR_SERVER__PORT", "value": str(installation.api_port)},
        *_public_url(installation),
    ]


def settings_volume() -> Document:
    return {"name": "settings", "configMap": {"name": SETTINGS_MAP}}


def state_volume() -> Document:
    return {"name": "state", "persistentVolumeClaim": {"claimName": STATE_CLAIM}}


def _public_url(installation: Installation) -> list[Document]:
    """The issuer has one name from the start: of *every address* nobody could fetch its keys."""
    if not installation.public_url:
        return []
    return [{"name": "ORCHESTRATOR_SERVER__PUBLIC_URL", "value": installation.public_url}]


def _ports(installation: Installation) -> list[Document]:
    ports = {"http": installation.api_port, "runner-api": installation.runner_api_port}
    if installation.gate_port:
        ports["admission"] = installation.gate_port
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()]


def _claim(installation: Installation) -> Document:
    spec: Document = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": installation.storage}},
    }
    if installation.storage_class:
        spec["storageClassName"] = installation.storage_class
    labels = installation.labels(DAEMON)
    return document("v1", "PersistentVolumeClaim", STATE_CLAIM, labels, installation.namespace, spec=spec)


def _deployment(installation: Installation) -> Document:
    """Recreate: two daemons cannot write one journal, so the next one starts when this one has gone."""
    daemon = container(
        installation,
        DAEMON,
        ["run", "--config", f"{SETTINGS_FOLDER}/{SETTINGS_NAME}"],
        env=environment(installation),
        ports=_ports(installation),
        # Recovery reads the journal before the listener answers; meanwhile only the start-up probe asks. It asks often:
        # until Services lead to the next daemon, the gateways' tables grow old (`fresh_seconds`).
        startupProbe=probe("/healthz", installation.api_port, periodSeconds=1, failureThreshold=300),
        livenessProbe=probe("/healthz", installation.api_port, failureThreshold=3),
        readinessProbe=probe("/readyz", installation.api_port, periodSeconds=2, failureThreshold=2),
        resources=resources("500m", "1Gi"),
        volumeMounts=[
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            {"name": "state", "mountPath": STATE_VOLUME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- in the container
        ],
    )
    pod: Document = {
        "serviceAccountName": DAEMON_ACCOUNT,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": installation.drain_seconds + STOP_MARGIN_SECONDS,
        "containers": [daemon],
        "volumes": [
            settings_volume(),
            state_volume(),
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        ],
    }
    return deployment(
        installation,
        NAME,
        installation.namespace,
        DAEMON,
        pod,
        installation.settings_yaml,
        replicas=1,
        strategy={"type": "Recreate"},
    )
