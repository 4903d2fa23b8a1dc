"""What the daemon may do outside its pools' namespaces: check tokens, read guards, hold its Lease."""

from __future__ import annotations

from orchestrator.backends.kubernetes.render.installation import (
    DAEMON,
    DAEMON_ACCOUNT,
    Document,
    Installation,
    document,
)

_GROUP = "rbac.authorization.k8s.io"


def cluster_documents(installation: Installation, admission_names: list[str]) -> list[Document]:
    """ClusterRole and its binding. What can be named is named: reading every namespace would tell of neighbours."""
    pools = installation.pools
    rules = [
        _rule("authentication.k8s.io", "tokenreviews", ["create"]),
        _rule("", "namespaces", ["get"], sorted({pool.namespace for pool in pools})),
        _rule("admissionregistration.k8s.io", "validatingadmissionpolicies", ["get"], admission_names),
        _rule("admissionregistration.k8s.io", "validatingadmissionpolicybindings", ["get"], admission_names),
    ]
    priorities = sorted({pool.priority_class for pool in pools} - {""})
    if priorities:
        rules.append(_rule("scheduling.k8s.io", "priorityclasses", ["get"], priorities))
    runtimes = sorted({pool.runtime_class for pool in pools} - {""})
    if runtimes:
        rules.append(_rule("node.k8s.io", "runtimeclasses", ["get"], runtimes))
    name, labels = installation.cluster_name, installation.labels()
    return [
        document(f"{_GROUP}/v1", "ClusterRole", name, labels, rules=rules),
        document(
            f"{_GROUP}/v1",
            "ClusterRoleBinding",
            name,
            labels,
            roleRef={"apiGroup": _GROUP, "kind": "ClusterRole", "name": name},
            subjects=[_daemon(installation)],
        ),
    ]


def lease_documents(installation: Installation) -> list[Document]:
    """The Lease itself and the right to hold it by name. It is made here, since *create* cannot be bound to a name."""
    name, labels, space = installation.lease_name, installation.labels(DAEMON), installation.namespace
    return [
        document("coordination.k8s.io/v1", "Lease", name, labels, space),
        document(
            f"{_GROUP}/v1",
            "Role",
            name,
            labels,
            space,
            rules=[_rule("coordination.k8s.io", "leases", ["get", "update"], [name])],
        ),
        document(
            f"{_GROUP}/v1",
            "RoleBinding",
            name,
            labels,
            space,
            roleRef={"apiGroup": _GROUP, "kind": "Role", "name": name},
            subjects=[_daemon(installation)],
        ),
    ]


def _daemon(installation: Installation) -> Document:
    return {"kind": "ServiceAccount", "name": DAEMON_ACCOUNT, "namespace": installation.namespace}


def _rule(group: str, resource: str, verbs: list[str], names: list[str] | None = None) -> Document:
    rule: Document = {"apiGroups": [group], "resources": [resource]}
    if names:
        rule["resourceNames"] = names
    return {**rule, "verbs": verbs}
