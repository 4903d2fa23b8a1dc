"""What the test node lacks and every cluster has, as documents: a resolver that knows Services, and a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

RESOLVER = Path(__file__).with_name("service_resolver.py")


def resolver_pod(name: str, image: str) -> list[dict[str, Any]]:
    where = {"name": name, "namespace": "kube-system"}
    role = {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}
    container = {
        "name": "dns", "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": {"runAsUser": 0},
        "command": ["/opt/orchestrator/bin/python", "-c", RESOLVER.read_text()],
    }  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": role, "subjects": [{"kind": "ServiceAccount", **where}],
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": where | {"labels": {"k8s-app": "kube-dns"}},
            "spec": {"serviceAccountName": name, "terminationGracePeriodSeconds": 0, "containers": [container]},
        },
    ]  # fmt: skip


def volume(name: str, path: Path) -> dict[str, Any]:
    """On the node's disk, of the kind whose files the kubelet gives to a pod's group."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}]}
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": name,
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }  # fmt: skip
