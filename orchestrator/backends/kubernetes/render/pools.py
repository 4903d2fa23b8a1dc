"""What each pool needs before its first runner: a namespace with its guards."""

from __future__ import annotations

from orchestrator.backends.kubernetes.config import SERVICE_ACCOUNT, KubernetesPool
from orchestrator.backends.kubernetes.manifest import LABEL_MANAGED_BY, MANAGED_BY
from orchestrator.backends.kubernetes.render.installation import (
    DAEMON_ACCOUNT,
    Document,
    Installation,
    document,
    namespace_document,
)
from orchestrator.backends.kubernetes.render.quantity import times
from orchestrator.errors import ConfigurationError

NOTHING_BUT_PODS = (
    *("secrets", "services", "persistentvolumeclaims", "replicationcontrollers", "deployments.apps"),
    *("replicasets.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch", "cronjobs.batch"),
)
"""What a pool's namespace must not hold: its quota of each is 0."""

RUNNER_PRIORITY = -100
"""Below everything that names no class (0): runners wait for others, never the other way round."""

QUOTA = "runners"
LIMITS = "runners"


def check_namespaces(installation: Installation) -> None:
    """Quota, rights and admission rules are per namespace, so each pool needs one that is nobody else's.

    Raises:
        ConfigurationError: reason `namespace_shared`.
    """
    owners = {installation.namespace: "the daemon"}
    owners[installation.gateway_namespace] = owners.get(installation.gateway_namespace, "the gateway")
    for pool in installation.pools:
        if pool.namespace in owners:
            raise ConfigurationError(
                f"pool {pool.name} has namespace {pool.namespace}, which is that of {owners[pool.namespace]}",
                reason="namespace_shared",
                fix="set kubernetes.namespace of the pool to one of its own",
            )
        owners[pool.namespace] = f"pool {pool.name}"


def pool_documents(installation: Installation, pool: KubernetesPool) -> list[Document]:
    """Namespace, account, network policies, quota, limits, the daemon's rights there, and no eviction of jobs."""
    labels = installation.labels(pool=pool.name)
    space = pool.namespace
    return [
        namespace_document(installation, space, labels),
        document("v1", "ServiceAccount", SERVICE_ACCOUNT, labels, space, automountServiceAccountToken=False),
        *installation.policies.get(space, ()),
        _quota(pool, labels),
        _limits(pool, labels),
        *_rights(installation, pool, labels),
        _no_eviction(pool, labels),
    ]


def priority_class(installation: Installation, name: str) -> Document:
    """Runners never evict anybody: a full cluster makes a job wait, not a neighbour end."""
    return document(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        name,
        installation.labels(),
        value=RUNNER_PRIORITY,
        globalDefault=False,
        preemptionPolicy="Never",
        description="Single-use CI runners: they wait for room and never evict others.",
    )


def _quota(pool: KubernetesPool, labels: dict[str, str]) -> Document:
    """The pool's capacity as the API server counts it, whatever the daemon believes."""
    amounts = (("cpu", pool.cpu), ("memory", pool.memory), ("ephemeral-storage", pool.ephemeral_storage))
    hard: dict[str, str] = {"pods": str(pool.capacity)}
    for name, amount in amounts:
        hard[f"requests.{name}"] = hard[f"limits.{name}"] = times(amount, pool.capacity)
    hard |= {f"count/{kind}": "0" for kind in NOTHING_BUT_PODS}
    return document("v1", "ResourceQuota", QUOTA, labels, pool.namespace, spec={"hard": dict(sorted(hard.items()))})


def _limits(pool: KubernetesPool, labels: dict[str, str]) -> Document:
    """No container without limits, and none above the pool's."""
    amounts = {"cpu": pool.cpu, "ephemeral-storage": pool.ephemeral_storage, "memory": pool.memory}
    limit = {"type": "Container"} | {key: dict(amounts) for key in ("default", "defaultRequest", "max")}
    return document("v1", "LimitRange", LIMITS, labels, pool.namespace, spec={"limits": [limit]})


def _rights(installation: Installation, pool: KubernetesPool, labels: dict[str, str]) -> list[Document]:
    """The daemon in this namespace: pods, and reading the guards. Nothing may be changed, nothing entered."""
    rules: list[Document] = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete"]}
    ]
    if pool.stream_logs:
        rules.append({"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]})
    rules += [
        {
            "apiGroups": [""],
            "resources": ["limitranges", "resourcequotas", "serviceaccounts"],
            "verbs": ["get", "list"],
        },
        {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["get", "list"]},
    ]
    group = "rbac.authorization.k8s.io"
    name = installation.cluster_name
    subject = {"kind": "ServiceAccount", "name": DAEMON_ACCOUNT, "namespace": installation.namespace}
    return [
        document(f"{group}/v1", "Role", name, labels, pool.namespace, rules=rules),
        document(
            f"{group}/v1",
            "RoleBinding",
            name,
            labels,
            pool.namespace,
            roleRef={"apiGroup": group, "kind": "Role", "name": name},
            subjects=[subject],
        ),
    ]


def _no_eviction(pool: KubernetesPool, labels: dict[str, str]) -> Document:
    """A node's drain waits for running jobs. Pods that still wait for a job are Pending and may be evicted always."""
    return document(
        "policy/v1",
        "PodDisruptionBudget",
        "runners",
        labels,
        pool.namespace,
        spec={"minAvailable": pool.capacity, "selector": {"matchLabels": {LABEL_MANAGED_BY: MANAGED_BY}}},
    )
