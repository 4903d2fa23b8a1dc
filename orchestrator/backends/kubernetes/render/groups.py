"""All documents of an installation, grouped into the files that an operator reads and applies. Pure."""

from __future__ import annotations

from orchestrator.backends.kubernetes.render.admission import admission_documents, admission_names
from orchestrator.backends.kubernetes.render.backup import backup_documents
from orchestrator.backends.kubernetes.render.daemon import daemon_documents
from orchestrator.backends.kubernetes.render.gateway import gateway_documents
from orchestrator.backends.kubernetes.render.installation import Document, Installation
from orchestrator.backends.kubernetes.render.pools import check_namespaces, pool_documents, priority_class
from orchestrator.backends.kubernetes.render.rbac import cluster_documents

DEFAULT_PRIORITY_CLASS = "orchestrator-runner"
"""The PriorityClass that is made here; another one that a pool names is the operator's."""


def documents_by_file(installation: Installation) -> dict[str, list[Document]]:
    """File name without ending to its documents, in the order in which they are to be applied.

    Guards come before what they guard: namespaces, quotas, policies and admission rules stand before the first pod.

    Raises:
        ConfigurationError: two pools, or a pool and the daemon, share a namespace.
    """
    check_namespaces(installation)
    made: dict[str, list[Document]] = {
        f"pool-{pool.name}": pool_documents(installation, pool) for pool in installation.pools
    }
    cluster = cluster_documents(installation, admission_names(installation))
    if any(pool.priority_class == DEFAULT_PRIORITY_CLASS for pool in installation.pools):
        cluster.insert(0, priority_class(installation, DEFAULT_PRIORITY_CLASS))
    backup = backup_documents(installation)
    return made | {
        "cluster": cluster,
        "admission": admission_documents(installation),
        "daemon": daemon_documents(installation),
        "gateway": gateway_documents(installation),
        **({"backup": backup} if backup else {}),
    }


def kustomization(files: list[str]) -> Document:
    """What makes the files one thing for `kubectl apply -k`."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{name}.yaml" for name in files],
    }
