"""Settings of the Kubernetes backend: the cluster, and what the pods of a pool look like."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from orchestrator.settings.cron import check_schedule
from orchestrator.settings.fields import Group, Name, Seconds

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
ImageReference = Annotated[str, Field(max_length=512, pattern=r"^[a-z0-9][A-Za-z0-9._:/@-]*$")]
ImageToName = Annotated[str, Field(max_length=512, pattern=r"^([a-z0-9][A-Za-z0-9._:/@-]*)?$")]
"""Empty until the operator names it."""
LabelKey = Annotated[
    str,
    Field(max_length=317, pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]


class TolerationSettings(Group):
    key: str
    """Key of the taint."""
    value: str = ""
    """Value of the taint; empty tolerates any."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Effect of the taint."""


class PodSettings(Group):
    """A pool's pods, when its backend is `kubernetes`."""

    image: ImageReference = "debian:12-slim"
    """Image of the job's container; it needs nothing but `/bin/sh`."""
    namespace: Name | None = None
    """Namespace of the pool's pods. Default: `runners-` and the pool's name."""
    require_digest: bool = False
    """Refuse to start with an image that is not pinned by `@sha256:`."""
    cpu: Quantity = "1"
    """Processor request and limit of the job's container."""
    memory: Quantity = "2Gi"
    """Memory request and limit; workspace and `/tmp` lie in memory and count against it."""
    ephemeral_storage: Quantity = "1Gi"
    """Request and limit of node storage: logs and the writable layer."""
    workspace: Quantity = "1Gi"
    """Size of `/job`, the job's working folder, in memory."""
    tmp: Quantity = "256Mi"
    """Size of `/tmp`, in memory."""
    runtime_class: Name | None = None
    """RuntimeClass with a stronger boundary, e.g. `gvisor`; none uses the cluster's default."""
    host_users: bool = False
    """False asks for a user namespace of the pod's own (`hostUsers: false`); set true where nodes cannot."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes that may run these pods."""
    tolerations: tuple[TolerationSettings, ...] = ()
    """Taints that these pods may stand on."""
    priority_class: Name | None = None
    """PriorityClass of the pods. Default: `orchestrator-runner`, which `orchestrator manifests` renders."""
    grace_seconds: int = Field(default=10, ge=0, le=3600)
    """Time between SIGTERM and SIGKILL at a deletion."""
    warm: int = Field(default=0, ge=0, le=1000)
    """Runners that wait unbound for a job; they count against the pool's capacity."""
    warm_idle_seconds: Seconds = 3600
    """A warm runner that waited this long is replaced."""
    stream_logs: bool = True
    """Read the job's output by `pods/log`. Without it the daemon needs no right to and keeps no log."""


class RunnerApiSettings(Group):
    """The listener that pods claim their work at: HTTPS with a certificate of the daemon's own CA."""

    host: str = "0.0.0.0"  # noqa: S104 -- pods come from other machines; NetworkPolicies say which
    """Address to listen on."""
    port: int = Field(default=8456, ge=0, le=65535)
    """TCP port; 0 takes a free one."""
    url: str = "https://orchestrator-runner-api.orchestrator.svc:8456"
    """How pods reach it; its host stands in the certificate."""

    @field_validator("url")
    @classmethod
    def _is_https(cls, value: str) -> str:
        if not value.startswith("https://") or value.endswith("/"):
            raise ValueError("must start with https:// and have no trailing slash")
        return value


class ClusterGatewaySettings(Group):
    """The egress gateway of the cluster, a Deployment of its own (`orchestrator gateway`)."""

    url: str = "http://orchestrator-gateway.orchestrator.svc:3128"
    """How pods reach it."""
    namespace: Name = "orchestrator"
    """Namespace of its ServiceAccount."""
    service_account: Name = "orchestrator-gateway"
    """The ServiceAccount whose tokens may read the table of runners."""
    replicas: int = Field(default=2, ge=1, le=1000)
    """Gateways in the rendered manifests; each alone is enough, so this is for load and for lost nodes."""
    fresh_seconds: float = Field(default=15, ge=2, le=300)
    """A gateway that has heard nothing from the daemon for this long refuses everything."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith("http://") or value.endswith("/"):
            raise ValueError("must start with http:// and have no trailing slash")
        return value


class ClusterBackupSettings(Group):
    """Backups of the daemon's state on a schedule, on a volume of their own (`orchestrator-backups`). They hold private
    keys: nothing else should mount that volume."""

    schedule: str = Field(default="", max_length=100)
    """When, in the five fields of cron and the cluster's time zone, e.g. `30 3 * * *`. Empty: none are made."""
    keep: int = Field(default=7, ge=1, le=1000)
    """So many are kept; older ones are removed once a new one is whole."""
    logs: bool = True
    """With the output of jobs, which is the larger part."""
    storage: Quantity = "20Gi"
    """Size of the volume; it has to hold one more than are kept, and a copy of the journal."""
    storage_class: Name | None = None
    """StorageClass of the volume; none uses the cluster's default. One that is kept elsewhere than the daemon's volume
    is worth more."""

    @field_validator("schedule")
    @classmethod
    def _schedule(cls, schedule: str) -> str:
        return check_schedule(schedule) if schedule else schedule


class PrometheusOperatorSettings(Group):
    """PodMonitors and a PrometheusRule in the rendered manifests, for clusters with a Prometheus operator."""

    enabled: bool = False
    """Render them. Without the operator's types in the cluster `kubectl apply` names these, and fails."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Labels by which your Prometheus chooses what it reads, e.g. `release: kube-prometheus-stack`."""
    runbooks: str = Field(default="", max_length=2048, pattern=r"^(https?://[!-~]+)?$")
    """Address of your copy of the SRE guide, for the links of the alerts."""


class KubernetesSettings(Group):
    kubeconfig: str = ""
    """Path of a kubeconfig. Empty: the pod's own ServiceAccount inside a cluster, else the usual places."""
    context: str = ""
    """Context of the kubeconfig; empty uses its current one."""
    installation: Name = "default"
    """Marks everything of this daemon, so that two daemons on one cluster never touch each other's pods."""
    namespace: Name = "orchestrator"
    """Namespace of the daemon itself and of its Lease."""
    lease: bool = True
    """Work only while holding the Lease, so that of two daemons of one installation one waits."""
    agent_image: ImageToName = ""
    """Image of the agent, the init container of every pod; needed with any pool of this backend. Nobody publishes one
    that could be a default: it is the one that `make images` made, where your nodes can pull it."""
    image: ImageToName = ""
    """Image of daemon and gateway in the rendered manifests; needed for these, and made by `make images` too."""
    image_pull_policy: Literal["Always", "IfNotPresent"] = "Always"
    """`Always` asks the registry each time, so that no pod uses another tenant's cached image without its rights."""
    resolver: str = Field(default="", pattern=r"^[0-9a-f:.]*$")
    """Address of a filtering DNS resolver that pods may ask. Empty, they have none: the gateway resolves names."""
    host_addresses: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Addresses of the hosts in `runner_api.url` and `gateway.url` for pods; by default the daemon looks them up."""
    image_registries: tuple[str, ...] = ()
    """Registries that the rendered admission policy lets images come from; empty lets all."""
    image_pull_seconds: Seconds = 60
    """How long an image may fail to be pulled before the job ends with `image_pull_failed`."""
    unschedulable_seconds: Seconds = 300
    """How long no node may fit before the job ends with `unschedulable`."""
    preflight_seconds: Seconds = 1800
    """Time between two looks at the guards that pools depend on; some 20 requests each, so that an idle daemon stays
    quiet. While a protected pool lacks one, it is looked every minute."""
    pod_security_version: str = Field(default="v1.34", pattern=r"^(latest|v1\.[0-9]+)$")
    """Version of the restricted profile. From 1.35 on it lets pods of a user namespace run as root; 1.34 does not."""
    operators: tuple[str, ...] = ("system:masters", "kubeadm:cluster-admins")
    """Groups that may change the guards of pool namespaces: labels, network policies."""
    break_glass_group: str = ""
    """Group that may exec into and attach to runners; empty, nobody may."""
    api_server_cidrs: tuple[str, ...] = ("0.0.0.0/0", "::/0")
    """Where the API server and the issuers of callers are, for the daemon's NetworkPolicy; narrow it if you can."""
    storage: Quantity = "10Gi"
    """Size of the daemon's volume: journal, keys, logs, evidence."""
    storage_class: Name | None = None
    """StorageClass of that volume; none uses the cluster's default."""
    runner_api: RunnerApiSettings = RunnerApiSettings()
    gateway: ClusterGatewaySettings = ClusterGatewaySettings()
    prometheus_operator: PrometheusOperatorSettings = PrometheusOperatorSettings()
    backup: ClusterBackupSettings = ClusterBackupSettings()
