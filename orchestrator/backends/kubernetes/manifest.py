"""From a runner and its pool to the pod document. Pure: the same arguments always give the same document.

The document holds no job text, no identity and no secret: only what the pool's configuration says, the
runner's name and hashes. What depends on the job, its egress rules above all, is not in it: the gateway is
told by the daemon, and the work itself is claimed by the agent.

Fields: Pod Security Standards, profile *restricted*, and what that profile leaves open (root file system,
token, user namespace, limits, deadline, service links, resolver).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from orchestrator.backends.kubernetes.config import (
    AGENT_UID,
    JOB_UID,
    RUNNER_AUDIENCE,
    SERVICE_ACCOUNT,
    KubernetesConfig,
    KubernetesPool,
    Toleration,
)
from orchestrator.model.runner import RunnerSpec

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY = "orchestrator"
LABEL_INSTALLATION = "orchestrator.dev/installation"
LABEL_POOL = "orchestrator.dev/pool"
LABEL_WARM = "orchestrator.dev/warm"
"""`true` on pods that were created to wait for a job. It says how a pod began and never changes."""

ANNOTATION_RUNNER_DIGEST = "orchestrator.dev/runner-digest"
"""`RunnerSpec.digest`, everything that the runner is for: with it *already exists* is told apart from a name clash.
The pool's template is not in it, so that a pod which the daemon before an upgrade made is still the job's."""
ANNOTATION_TEMPLATE_HASH = "orchestrator.dev/template-hash"
"""`template_hash` at creation, on warm pods: one of another template is outdated."""

AGENT_CONTAINER = "agent"
JOB_CONTAINER = "job"

WORK_PATH = "/run/orchestrator"
WORKSPACE_PATH = "/job"
TOKEN_FOLDER = "/run/orchestrator-identity"  # noqa: S105 -- a path
"""Not below `/var/run`: in most images that is a link to `/run`, and one mount would hide the other."""
TOKEN_FILE = f"{TOKEN_FOLDER}/token"
WORK_SIZE = "32Mi"
"""Script, environment and programs that the agent writes for the job."""
AGENT_TMP_SIZE = "16Mi"

DEAD_RESOLVER = "127.0.0.1"
"""Nothing listens there, so a look-up fails at once instead of leaving the pod."""

DEADLINE_MARGIN_SECONDS = 120
"""How far behind the longest job a pod's own hard stop is: it counts from the kubelet's start, pulls included."""

Document = dict[str, Any]


def pod_document(spec: RunnerSpec, pool: KubernetesPool, config: KubernetesConfig) -> Document:
    """The pod of one runner, ready to be sent. `activeDeadlineSeconds` counts from the kubelet's start."""
    return _frame(spec, pool, config, _pod_spec(pool, config, spec.deadline_seconds))


def _frame(
    spec: RunnerSpec, pool: KubernetesPool, config: KubernetesConfig, pod_spec: Document | msgspec.Raw
) -> Document:
    document = _pod(spec.name, pool, config, pod_spec)
    document["metadata"]["annotations"] = {ANNOTATION_RUNNER_DIGEST: spec.digest}
    return document


class PodBodies:
    """`pod_document` as JSON for the runners of one configuration. All that the pods of a pool have in common is
    made once for each hard stop, of which a pool's jobs have few.
    """

    MOST_KEPT = 256

    def __init__(self, config: KubernetesConfig) -> None:
        self._config = config
        self._specs: dict[tuple[str, int], msgspec.Raw] = {}

    def body(self, spec: RunnerSpec, pool: KubernetesPool) -> bytes:
        """`pool` is the configuration's own."""
        kept = self._specs.get((pool.name, spec.deadline_seconds))
        document = pod_document(spec, pool, self._config) if kept is None else _frame(spec, pool, self._config, kept)
        if kept is None:
            if len(self._specs) >= self.MOST_KEPT:
                self._specs.clear()
            self._specs[pool.name, spec.deadline_seconds] = msgspec.Raw(msgspec.json.encode(document["spec"]))
        return msgspec.json.encode(document)


def warm_document(name: str, pool: KubernetesPool, config: KubernetesConfig) -> Document:
    """A pod that waits for a job. Its hard stop leaves room for the longest wait and then the longest job."""
    document = _pod(name, pool, config, _pod_spec(pool, config, warm_deadline_seconds(pool)))
    document["metadata"]["labels"][LABEL_WARM] = "true"
    document["metadata"]["annotations"] = {ANNOTATION_TEMPLATE_HASH: template_hash(pool, config)}
    return document


def warm_deadline_seconds(pool: KubernetesPool) -> int:
    return pool.warm_idle_seconds + pool.max_job_seconds + DEADLINE_MARGIN_SECONDS


def hard_stop_seconds(pool: KubernetesPool) -> int:
    """The latest hard stop that any pod of the pool may have."""
    return warm_deadline_seconds(pool) if pool.warm else pool.max_job_seconds + DEADLINE_MARGIN_SECONDS


def template_hash(pool: KubernetesPool, config: KubernetesConfig) -> str:
    """Equal as long as a pool's warm pods would be made the same but for their name: SHA-256 of canonical JSON."""
    document = _pod("", pool, config, _pod_spec(pool, config, warm_deadline_seconds(pool)))
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def labels(pool: KubernetesPool, config: KubernetesConfig) -> dict[str, str]:
    """What every pod of a pool carries, and what watches select by."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_INSTALLATION: config.installation, LABEL_POOL: pool.name}


def pod_hosts(config: KubernetesConfig) -> list[str]:
    """The host names that pods must know without a resolver: those of the two URLs that are no addresses."""
    hosts = {urlsplit(url).hostname or "" for url in (config.runner_api_url, config.gateway_url)}
    return sorted(host for host in hosts if host and not _is_address(host))


def _pod(name: str, pool: KubernetesPool, config: KubernetesConfig, spec: Document | msgspec.Raw) -> Document:
    metadata = {"name": name, "namespace": pool.namespace, "labels": labels(pool, config)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _pod_spec(pool: KubernetesPool, config: KubernetesConfig, deadline_seconds: int) -> Document:
    spec: Document = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": deadline_seconds,
        "terminationGracePeriodSeconds": pool.grace_seconds,
        "serviceAccountName": SERVICE_ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": False,
        "hostUsers": pool.host_users,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        **_names(config),
        "initContainers": [_agent(pool, config)],
        "containers": [_job(pool, config)],
        "volumes": _volumes(pool, config),
    }
    if pool.priority_class:
        # The class must say the same or admission refuses the pod: jobs never evict anybody.
        spec |= {"priorityClassName": pool.priority_class, "preemptionPolicy": "Never"}
    if pool.runtime_class:
        spec["runtimeClassName"] = pool.runtime_class
    if pool.node_selector:
        spec["nodeSelector"] = dict(sorted(pool.node_selector.items()))
    if pool.tolerations:
        spec["tolerations"] = [_toleration(one) for one in pool.tolerations]
    return spec


def _agent(pool: KubernetesPool, config: KubernetesConfig) -> Document:
    """It ends before the job starts, so the job's resources are enough for both: a pod reserves the larger."""
    return {
        "name": AGENT_CONTAINER,
        "image": config.agent_image,
        "imagePullPolicy": config.image_pull_policy,
        "env": [
            {"name": "ORCHESTRATOR_RUNNER_API", "value": config.runner_api_url},
            {"name": "ORCHESTRATOR_CA_PEM", "value": config.runner_api_ca},
            {"name": "ORCHESTRATOR_GATEWAY", "value": config.gateway_url},
            {"name": "ORCHESTRATOR_TOKEN_FILE", "value": TOKEN_FILE},
        ],
        "resources": _resources(pool),
        "securityContext": _restricted(AGENT_UID),
        # Its last words are the cause that the daemon reports. The job's stay in the job's log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "work", "mountPath": WORK_PATH},
            {"name": "agent-tmp", "mountPath": "/tmp"},  # noqa: S108 -- in the container
            {"name": "identity", "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    }


def _job(pool: KubernetesPool, config: KubernetesConfig) -> Document:
    return {
        "name": JOB_CONTAINER,
        "image": pool.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["/bin/sh", f"{WORK_PATH}/start"],
        "workingDir": WORKSPACE_PATH,
        "resources": _resources(pool),
        "securityContext": _restricted(JOB_UID),
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "work", "mountPath": WORK_PATH, "readOnly": True},
            {"name": "workspace", "mountPath": WORKSPACE_PATH},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 -- in the container
            {"name": "identity", "mountPath": TOKEN_FOLDER, "readOnly": True},
        ],
    }


def _restricted(uid: int) -> Document:
    """User, group and no way up, said for each container: pod-wide values would be only defaults."""
    return {
        "runAsNonRoot": True,
        "runAsUser": uid,
        "runAsGroup": uid,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _resources(pool: KubernetesPool) -> Document:
    """Requests equal limits: nothing a neighbour does takes away what was promised (QoS class Guaranteed)."""
    amounts = {"cpu": pool.cpu, "memory": pool.memory, "ephemeral-storage": pool.ephemeral_storage}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _volumes(pool: KubernetesPool, config: KubernetesConfig) -> list[Document]:
    token = {"audience": RUNNER_AUDIENCE, "expirationSeconds": config.token_seconds, "path": "token"}
    return [
        _memory("work", WORK_SIZE),
        _memory("workspace", pool.workspace),
        _memory("tmp", pool.tmp),
        _memory("agent-tmp", AGENT_TMP_SIZE),
        {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]


def _memory(name: str, size: str) -> Document:
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def _names(config: KubernetesConfig) -> Document:
    """How host names become addresses in the pod: not at all, but for those it must reach, or by one resolver."""
    resolver = config.resolver or DEAD_RESOLVER
    names: Document = {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [resolver], "options": [{"name": "ndots", "value": "1"}]},
    }
    aliases: dict[str, list[str]] = {}
    for host in pod_hosts(config):
        for address in config.host_addresses.get(host, ()):
            aliases.setdefault(address, []).append(host)
    if aliases:
        names["hostAliases"] = [{"ip": ip, "hostnames": aliases[ip]} for ip in _by_number(aliases)]
    return names


def _by_number(addresses: Iterable[str]) -> list[str]:
    return sorted(addresses, key=lambda one: (ipaddress.ip_address(one).version, int(ipaddress.ip_address(one))))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _toleration(one: Toleration) -> Document:
    if one.value:
        return {"key": one.key, "operator": "Equal", "value": one.value, "effect": one.effect}
    return {"key": one.key, "operator": "Exists", "effect": one.effect}
