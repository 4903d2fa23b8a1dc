"""The egress gateways: any number, without state and without any right at the API server. Pure."""

from __future__ import annotations

from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE
from orchestrator.backends.kubernetes.render.installation import (
    GATEWAY,
    Document,
    Installation,
    component_labels,
    namespace_document,
)
from orchestrator.backends.kubernetes.render.workloads import (
    SETTINGS_FOLDER,
    account,
    container,
    deployment,
    disruption_budget,
    probe,
    projected_token,
    resources,
    service,
    settings_map,
)

NAME = "orchestrator-gateway"
SETTINGS_MAP = "orchestrator-gateway-settings"
SETTINGS_NAME = "gateway.yaml"
CA_MAP = "orchestrator-runner-api-ca"
"""ConfigMap with the daemon's CA as `ca.pem`, written by the operator once the daemon has made it.

A public value, but not one the daemon may write: it has no right to change anything beside pods and its Lease.
Until it is there a gateway knows no daemon, is not ready and refuses everything.
"""
CA_FOLDER = "/etc/orchestrator-ca"
CA_FILE = f"{CA_FOLDER}/ca.pem"
TOKEN_FOLDER = "/run/orchestrator-identity"  # noqa: S105 -- a path
TOKEN_FILE = f"{TOKEN_FOLDER}/token"
TOKEN_SECONDS = 3600
PROBE_PORT = 8457
GRACE_SECONDS = 40
"""Longer than the gateway lingers (5 s), drains (20 s) and closes (10 s) after SIGTERM."""


def gateway_documents(installation: Installation) -> list[Document]:
    space = installation.gateway_namespace
    made: list[Document] = []
    if space != installation.namespace:
        made += [
            namespace_document(installation, space, installation.labels()),
            *installation.policies.get(space, ()),
        ]
    made += [
        account(installation, installation.gateway_account, space, GATEWAY),
        settings_map(installation, SETTINGS_MAP, space, GATEWAY, SETTINGS_NAME, installation.gateway_yaml),
    ]
    if installation.gateway_service:
        port = installation.gateway_port
        made.append(service(installation, installation.gateway_service, space, GATEWAY, "proxy", port, port))
    return [*made, _deployment(installation), disruption_budget(installation, NAME, space, GATEWAY)]


def _deployment(installation: Installation) -> Document:
    gateway = container(
        installation,
        GATEWAY,
        ["gateway", "--config", f"{SETTINGS_FOLDER}/{SETTINGS_NAME}"],
        ports=[
            {"name": "proxy", "containerPort": installation.gateway_port, "protocol": "TCP"},
            {"name": "probes", "containerPort": PROBE_PORT, "protocol": "TCP"},
        ],
        livenessProbe=probe("/healthz", PROBE_PORT, failureThreshold=3),
        readinessProbe=probe("/readyz", PROBE_PORT, periodSeconds=2, failureThreshold=1),
        resources=resources("250m", "256Mi"),
        volumeMounts=[
            {"name": "settings", "mountPath": SETTINGS_FOLDER, "readOnly": True},
            {"name": "ca", "mountPath": CA_FOLDER, "readOnly": True},
            {"name": "identity", "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    )
    chosen = {"matchLabels": component_labels(installation.config.installation, GATEWAY)}
    spread = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    pod: Document = {
        "serviceAccountName": installation.gateway_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "topologySpreadConstraints": [{**spread, "labelSelector": chosen}],
        "containers": [gateway],
        "volumes": [
            {"name": "settings", "configMap": {"name": SETTINGS_MAP}},
            {"name": "ca", "configMap": {"name": CA_MAP, "optional": True}},
            projected_token(RUNNER_AUDIENCE, TOKEN_SECONDS),
        ],
    }
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    return deployment(
        installation,
        NAME,
        installation.gateway_namespace,
        GATEWAY,
        pod,
        installation.gateway_yaml,
        replicas=installation.gateway_replicas,
        strategy=strategy,
    )
