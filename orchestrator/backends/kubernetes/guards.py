"""The guards that a pool depends on: which there are, what each is for, and where the API server keeps it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.backends.kubernetes.config import KubernetesPool
from orchestrator.backends.kubernetes.render.admission import admission_documents
from orchestrator.backends.kubernetes.render.groups import DEFAULT_PRIORITY_CLASS
from orchestrator.backends.kubernetes.render.installation import Installation
from orchestrator.backends.kubernetes.render.pools import RUNNER_PRIORITY, pool_documents

Document = dict[str, Any]


class Severity(StrEnum):
    """*missing* keeps a protected pool from taking jobs; a *warning* is only told."""

    MISSING = "missing"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One guard of one pool that is not as rendered. `pool` is empty for what is not one pool's.

    `what` is wrong, `protects_from` is what the guard is for, `fix` is the way out.
    """

    guard: str
    pool: str
    what: str
    protects_from: str
    fix: str
    severity: Severity = Severity.MISSING

    def __str__(self) -> str:
        return f"{self.guard}: {self.what}"


@dataclass(frozen=True, slots=True)
class Guard:
    """A kind of object that guards. `resource` is its path's last part, `file` where the rendered one is."""

    name: str
    protects_from: str
    group: str
    resource: str
    namespaced: bool
    file: str


_ADMISSION = "pods, and changes to guards, that a daemon gone wrong or a careless operator could ask for"

GUARDS: Mapping[str, Guard] = {
    "Namespace": Guard(
        "pod-security", "pods with the node's rights: root, host access, privileges", "/api/v1", "namespaces", False, ""
    ),
    "ServiceAccount": Guard(
        "service-account", "a credential for the API server in every runner", "/api/v1", "serviceaccounts", True, ""
    ),
    "NetworkPolicy": Guard(
        "network-policy",
        "runners that reach the network past the gateway, and others that reach runners",
        "/apis/networking.k8s.io/v1",
        "networkpolicies",
        True,
        "",
    ),
    "ResourceQuota": Guard(
        "resource-quota",
        "more runners than the pool's capacity; secrets and services beside runners",
        "/api/v1",
        "resourcequotas",
        True,
        "",
    ),
    "LimitRange": Guard(
        "limit-range", "runners without limits, which starve their node", "/api/v1", "limitranges", True, ""
    ),
    "PriorityClass": Guard(
        "priority-class",
        "runners that evict others",
        "/apis/scheduling.k8s.io/v1",
        "priorityclasses",
        False,
        "cluster",
    ),
    "RuntimeClass": Guard(
        "runtime-class", "runners on the node's own kernel", "/apis/node.k8s.io/v1", "runtimeclasses", False, "-"
    ),
    "ValidatingAdmissionPolicy": Guard(
        "admission-policy",
        _ADMISSION,
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicies",
        False,
        "admission",
    ),
    "ValidatingAdmissionPolicyBinding": Guard(
        "admission-binding",
        _ADMISSION,
        "/apis/admissionregistration.k8s.io/v1",
        "validatingadmissionpolicybindings",
        False,
        "admission",
    ),
}
"""By kind. An empty `file` is the pool's own; `-` is not rendered but the operator's."""


def expected(installation: Installation, pool: KubernetesPool) -> list[Document]:
    """The guards of one pool as they should be: rendered documents, and the classes that the operator brings."""
    documents = [one for one in pool_documents(installation, pool) if one["kind"] in GUARDS]
    if pool.priority_class:
        wanted: Document = {"preemptionPolicy": "Never"}
        if pool.priority_class == DEFAULT_PRIORITY_CLASS:
            wanted["value"] = RUNNER_PRIORITY
        documents.append(_class("PriorityClass", pool.priority_class) | wanted)
    if pool.runtime_class:
        documents.append(_class("RuntimeClass", pool.runtime_class))
    others = {f"{installation.cluster_name}-pool-{name}" for name in installation.config.pools if name != pool.name}
    documents += [one for one in admission_documents(installation) if one["metadata"]["name"] not in others]
    return documents


def path(document: Document) -> str:
    """Where the API server keeps what this document describes."""
    guard, metadata = GUARDS[document["kind"]], document["metadata"]
    space = f"/namespaces/{metadata['namespace']}" if guard.namespaced else ""
    return f"{guard.group}{space}/{guard.resource}/{metadata['name']}"


def mend(guard: Guard, pool: str, config_file: str) -> str:
    """The exact commands that put a guard back."""
    if guard.file == "-":
        return f"make the {guard.name} that the pool names, or name another in its settings"
    file = guard.file or f"pool-{pool}"
    return f"orchestrator manifests --config {config_file} --output cluster && kubectl apply -f cluster/{file}.yaml"


def _class(kind: str, name: str) -> Document:
    return {"kind": kind, "metadata": {"name": name}}
