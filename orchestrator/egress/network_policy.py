"""NetworkPolicies (networking.k8s.io/v1) of everything we run in a cluster. Pure.

They exist before the first pod and hold for all pods of a namespace, so there is no moment at which a pod is
not yet covered. NetworkPolicy knows no host names: for a runner the only way out is the gateway, which does.
Policies only ever add allows, so each namespace starts with one that denies everything both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Label that the API server puts on each namespace and lets nobody change (Kubernetes 1.21 and newer)."""

DNS_PORTS: tuple[tuple[str, int], ...] = (("UDP", 53), ("TCP", 53))

Ports = tuple[tuple[str, int], ...]
"""Protocol and number of each port."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end: pods of one namespace by their labels, or addresses.

    Without `pod_labels` all pods of the namespace; `namespace_labels` choose namespaces instead of one by name.
    `cidr` excludes the others; `excluded` is cut out of it.
    """

    namespace: str = ""
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    cidr: str = ""
    excluded: tuple[str, ...] = ()

    def document(self) -> Document:
        """Raises ValueError for a peer that would mean *everybody*."""
        if self.cidr:
            block: Document = {"cidr": self.cidr}
            return {"ipBlock": block | ({"except": list(self.excluded)} if self.excluded else {})}
        chosen = {NAMESPACE_NAME: self.namespace} if self.namespace else dict(sorted(self.namespace_labels.items()))
        if not chosen:
            raise ValueError("a peer without namespace and address would be every pod of the cluster")
        document: Document = {"namespaceSelector": {"matchLabels": chosen}}
        if self.pod_labels:
            document["podSelector"] = {"matchLabels": dict(sorted(self.pod_labels.items()))}
        return document


@dataclass(frozen=True, slots=True)
class Allowed:
    """Traffic with any of `peers` on any of `ports`. Neither may be empty: that would mean *all*."""

    peers: tuple[Peer, ...]
    ports: Ports

    def __post_init__(self) -> None:
        if not self.peers or not self.ports:
            raise ValueError("an allowance without peers or without ports would allow all of them")


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods of one namespace by their labels, and all that they may do on the network."""

    name: str
    namespace: str
    pod_labels: Mapping[str, str]
    ingress: tuple[Allowed, ...] = ()
    egress: tuple[Allowed, ...] = ()


def namespace_policies(namespace: str, workloads: Iterable[Workload], labels: Mapping[str, str]) -> list[Document]:
    """Deny everything in the namespace both ways, then allow each workload what it was given.

    A workload without any allowance gets no policy of its own. Raises ValueError when one is of another
    namespace or selects every pod.
    """
    policies = [_policy("default-deny", namespace, labels, {}, None, None)]
    for workload in workloads:
        if workload.namespace != namespace or not workload.pod_labels:
            raise ValueError(f"workload {workload.name} does not select pods of namespace {namespace}")
        if workload.ingress or workload.egress:
            policies.append(
                _policy(workload.name, namespace, labels, workload.pod_labels, workload.ingress, workload.egress)
            )
    return policies


def runner_workload(
    namespace: str, pod_labels: Mapping[str, str], destinations: Sequence[Allowed], resolver: str = ""
) -> Workload:
    """Runners: out to `destinations` (gateway and runner API) and to the one resolver, if any; nobody comes in."""
    egress = tuple(destinations)
    if resolver:
        egress += (Allowed((Peer(cidr=single(resolver)),), DNS_PORTS),)
    return Workload("runner", namespace, pod_labels, egress=egress)


def single(address: str) -> str:
    """The CIDR block of one address."""
    return f"{address}/{128 if ':' in address else 32}"


def _policy(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    selected: Mapping[str, str],
    ingress: Sequence[Allowed] | None,
    egress: Sequence[Allowed] | None,
) -> Document:
    """Both directions are always named: a policy that leaves one out does not isolate in it."""
    spec: Document = {
        "podSelector": {"matchLabels": dict(sorted(selected.items()))} if selected else {},
        "policyTypes": ["Ingress", "Egress"],
    }
    if ingress:
        spec["ingress"] = [{"from": _peers(one), "ports": _ports(one.ports)} for one in ingress]
    if egress:
        spec["egress"] = [{"to": _peers(one), "ports": _ports(one.ports)} for one in egress]
    metadata = {"name": name, "namespace": namespace, "labels": dict(sorted(labels.items()))}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _peers(allowed: Allowed) -> list[Document]:
    return [peer.document() for peer in allowed.peers]


def _ports(ports: Ports) -> list[Document]:
    return [{"protocol": protocol, "port": port} for protocol, port in ports]
