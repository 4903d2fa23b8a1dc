"""The webhook that has a cluster's API server ask us before it starts a workload in a guarded namespace. Pure.

What CEL cannot look at, signatures and what else is known of an image, a webhook can. It selects namespaces by the name
that the API server itself writes into their labels, so that nobody takes a namespace out by a label.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from orchestrator.backends.kubernetes.manifest import LABEL_INSTALLATION, LABEL_MANAGED_BY
from orchestrator.backends.kubernetes.render.installation import RENDERED_BY, Document, document

WEBHOOK = "deployments.orchestrator.dev"

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_RESOURCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers")),
    ("apps", ("deployments", "replicasets", "statefulsets", "daemonsets")),
    ("batch", ("jobs", "cronjobs")),
)
"""What makes pods, and pods themselves: whatever else makes them, they are looked at when they are made."""

# Labels and finalizers of what runs must be able to change while we are away. Kubernetes before 1.28 does not know the
# field: there we answer for ourselves that nothing changed.
_CHANGED = "request.operation != 'UPDATE' || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec"


@dataclass(frozen=True, slots=True)
class Gate:
    """`namespaces` are guarded. The API server asks at the Service (in the daemon's namespace), or at `url` where there
    is none. `ca_pem` vouches for us; without it the API server trusts nobody, and nothing starts."""

    installation: str
    daemon_namespace: str
    namespaces: tuple[str, ...]
    url: str
    path: str
    service: str = ""
    service_port: int = 0
    listening: int = 0
    timeout_seconds: int = 10
    ca_pem: str = ""


def gate_documents(gate: Gate) -> list[Document]:
    """The configuration, to be applied once the daemon answers."""
    labels = {LABEL_MANAGED_BY: RENDERED_BY, LABEL_INSTALLATION: gate.installation}
    chosen = {"key": _NAMESPACE_NAME, "operator": "In", "values": sorted(gate.namespaces)}
    webhook: Document = {
        "name": WEBHOOK,
        "admissionReviewVersions": ["v1"],
        "clientConfig": _client_config(gate),
        "failurePolicy": "Fail",
        "matchConditions": [{"name": "changed", "expression": _CHANGED}],
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [chosen]},
        "rules": [
            {
                "apiGroups": [group],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": list(resources),
                "scope": "Namespaced",
            }
            for group, resources in _RESOURCES
        ],
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": gate.timeout_seconds,
    }
    name = f"orchestrator-{gate.installation}-deployments"
    api_version = "admissionregistration.k8s.io/v1"
    return [document(api_version, "ValidatingWebhookConfiguration", name, labels, webhooks=[webhook])]


def _client_config(gate: Gate) -> Document:
    if gate.service:
        reached: Document = {
            "service": {
                "name": gate.service,
                "namespace": gate.daemon_namespace,
                "path": gate.path,
                "port": gate.service_port,
            }
        }
    else:
        reached = {"url": gate.url + gate.path}
    return reached | ({"caBundle": base64.b64encode(gate.ca_pem.encode()).decode()} if gate.ca_pem else {})
