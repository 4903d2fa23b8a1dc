"""What the Kubernetes backend is told: the cluster, and what the pods of each pool look like. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.model.job import PoolName

RUNNER_AUDIENCE = "orchestrator-runner-api"
"""Audience of a pod's projected token: the API server refuses it, only our runner API takes it."""

SERVICE_ACCOUNT = "runner"
"""The one ServiceAccount of a pool's namespace. It has no rights and no automounted token."""

AGENT_UID = 64000
JOB_UID = 64001
"""Fixed, different, not root: the job can neither trace the agent nor change what it wrote."""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint that the pool's pods may stand on (core/v1 Toleration). `value` empty means operator Exists."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class KubernetesPool:
    """One pool's pods. Sizes are Kubernetes quantities (`500m`, `2Gi`), times are seconds.

    `image` is the job's; it needs nothing but `/bin/sh`. `workspace` and `tmp` are memory-backed and count
    against `memory`. `host_users` False asks for a user namespace (Kubernetes 1.33 and newer by default).
    `warm` runners wait unbound, each for `warm_idle_seconds` at most. `stream_logs` reads the job's output
    by `pods/log`; without it the daemon has no right to and the log stays in the cluster.
    """

    name: PoolName
    namespace: str
    image: str
    require_digest: bool = False
    cpu: str = "1"
    memory: str = "2Gi"
    ephemeral_storage: str = "1Gi"
    workspace: str = "1Gi"
    tmp: str = "256Mi"
    runtime_class: str = ""
    host_users: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str = ""
    grace_seconds: int = 10
    max_job_seconds: int = 3600
    capacity: int = 4
    protected: bool = False
    warm: int = 0
    warm_idle_seconds: int = 3600
    stream_logs: bool = True


@dataclass(frozen=True, slots=True)
class KubernetesConfig:
    """The cluster and all pools of this backend.

    `installation` labels everything of this daemon, so that two daemons on one cluster never touch each
    other's pods. `runner_api_url` (https) and `gateway_url` (http) are how a pod reaches us, `runner_api_ca`
    is the PEM of the CA that vouches for the former. Pods have no resolver unless `resolver` (an address) is
    given: the host names in those two URLs are written into each pod with their `host_addresses`.
    `image_pull_policy` Always makes the node ask the registry each time, so that an image cached for another
    tenant cannot be used without its credentials. `kubeconfig` empty means the pod's own ServiceAccount
    when there is one, else the client's usual places. Times are seconds.
    """

    installation: str
    pools: Mapping[PoolName, KubernetesPool]
    agent_image: str
    runner_api_url: str
    runner_api_ca: str
    gateway_url: str
    host_addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resolver: str = ""
    image_pull_policy: str = "Always"
    kubeconfig: str = ""
    context: str = ""
    token_seconds: int = 600
    request_timeout: float = 15.0
    watch_seconds: int = 300
    watch_idle_seconds: float = 360.0
    image_pull_seconds: float = 60.0
    unschedulable_seconds: float = 300.0


def lease_name(installation: str) -> str:
    """The Lease by which daemons of one installation take turns; the manifests make it, and rights name it."""
    return f"orchestrator-{installation}"
