"""One installation in a cluster: what its documents say beyond what its pods look like, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.backends.kubernetes.config import KubernetesConfig, KubernetesPool, lease_name
from orchestrator.backends.kubernetes.manifest import LABEL_INSTALLATION, LABEL_MANAGED_BY, LABEL_POOL

Document = dict[str, Any]

DAEMON = "daemon"
GATEWAY = "gateway"

RENDERED_BY = "orchestrator-manifests"
"""Value of the managed-by label on what `orchestrator manifests` writes; runners carry another."""

LABEL_NAME = "app.kubernetes.io/name"
LABEL_COMPONENT = "app.kubernetes.io/component"

DAEMON_ACCOUNT = "orchestrator"


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """When backups are made (five fields of cron), how many are kept, and the volume they lie on."""

    schedule: str
    keep: int
    logs: bool
    storage: str
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """The daemon, its gateways and its pools in one cluster.

    `settings_yaml` is the very text that the daemon reads, `gateway_yaml` the gateway's. `policies` are the
    NetworkPolicies of each namespace, made elsewhere. `runner_api_service` and `gateway_service` are empty when
    pods reach those at an address instead of a Service. Ports are TCP; `drain_seconds` is how long the daemon
    may take to stop. `public_url` is empty where the settings name one. `gate_port` is where API servers ask before
    X"""

    config: KubernetesConfig
    namespace: str
    image: str
    settings_yaml: str
    gateway_yaml: str
    api_port: int
    runner_api_port: int
    runner_api_url_port: int
    runner_api_service: str
    gateway_namespace: str
    gateway_account: str
    gateway_service: str
    gateway_port: int
    gateway_replicas: int = 2
    pod_security_version: str = "v1.34"
    registries: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    break_glass_group: str = ""
    storage: str = "10Gi"
    storage_class: str = ""
    drain_seconds: int = 60
    lease: bool = True
    public_url: str = ""
    policies: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    gate_service: str = ""
    gate_service_port: int = 0
    gate_port: int = 0
    backup: BackupPlan | None = None

    @property
    def pools(self) -> list[KubernetesPool]:
        return [self.config.pools[name] for name in sorted(self.config.pools)]

    @property
    def cluster_name(self) -> str:
        """Name, or its beginning, of what belongs to no namespace: two installations never share one."""
        return f"orchestrator-{self.config.installation}"

    @property
    def daemon_user(self) -> str:
        """The daemon as the API server knows it."""
        return f"system:serviceaccount:{self.namespace}:{DAEMON_ACCOUNT}"

    @property
    def lease_name(self) -> str:
        return lease_name(self.config.installation)

    def labels(self, component: str = "", pool: str = "") -> dict[str, str]:
        """Labels of one document; those of daemon and gateway pods are what `component_labels` selects."""
        labels = {LABEL_MANAGED_BY: RENDERED_BY, LABEL_INSTALLATION: self.config.installation}
        if component:
            labels |= component_labels(self.config.installation, component)
        if pool:
            labels[LABEL_POOL] = pool
        return labels


def component_labels(installation: str, component: str) -> dict[str, str]:
    """What selects the daemon's or the gateway's pods."""
    return {LABEL_NAME: "orchestrator", LABEL_COMPONENT: component, LABEL_INSTALLATION: installation}


def document(
    api_version: str, kind: str, name: str, labels: Mapping[str, str], namespace: str = "", **rest: Any
) -> Document:
    """The frame that all documents share."""
    metadata: Document = {"name": name} | ({"namespace": namespace} if namespace else {}) | {"labels": dict(labels)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def namespace_document(installation: Installation, name: str, labels: Mapping[str, str]) -> Document:
    """A namespace under the restricted profile of one fixed version: an upgrade of the cluster changes nothing."""
    version = installation.pod_security_version
    security = {
        f"pod-security.kubernetes.io/{mode}{suffix}": value
        for mode in ("enforce", "audit", "warn")
        for suffix, value in (("", "restricted"), ("-version", version))
    }
    return document("v1", "Namespace", name, {**labels, **security})
