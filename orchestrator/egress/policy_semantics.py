"""What NetworkPolicies mean: may this pod talk to that one? An evaluator of their semantics. Pure.

Source: the Kubernetes documentation of networking.k8s.io/v1. A connection is let through when the source's
egress and the destination's ingress both let it; a pod that no policy selects for a direction is open in it;
policies add up. Not modelled, because the API does not: the node reaches its own pods, and pods of the host
network are the node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a connection: a pod when `namespace` is given, else an address outside the cluster.

    `named_ports` maps the names of a pod's container ports to protocol and number.
    """

    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    named_ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class PolicySet:
    """Policies and the labels of the namespaces they speak of."""

    def __init__(self, policies: Iterable[Document], namespaces: Mapping[str, Mapping[str, str]]) -> None:
        self._policies = tuple(policies)
        self._namespaces = namespaces

    def allows(self, source: Endpoint, destination: Endpoint, port: int, protocol: str = "TCP") -> bool:
        """Whether a new connection from `source` to `port` of `destination` gets through."""
        return self._lets_out(source, destination, port, protocol) and self._lets_in(
            source, destination, port, protocol
        )

    def isolated(self, pod: Endpoint, direction: str) -> bool:
        """Whether any policy selects the pod for `direction` (`Ingress` or `Egress`)."""
        return any(True for _ in self._selecting(pod, direction))

    def _lets_out(self, source: Endpoint, destination: Endpoint, port: int, protocol: str) -> bool:
        return self._passes("Egress", source, destination, destination, port, protocol)

    def _lets_in(self, source: Endpoint, destination: Endpoint, port: int, protocol: str) -> bool:
        return self._passes("Ingress", destination, source, destination, port, protocol)

    def _passes(
        self, direction: str, pod: Endpoint, peer: Endpoint, listener: Endpoint, port: int, protocol: str
    ) -> bool:
        selecting = list(self._selecting(pod, direction))
        if not pod.namespace or not selecting:
            return True
        rules, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
        return any(
            self._is_peer(rule.get(peers), peer, policy["metadata"]["namespace"])
            and _is_port(rule.get("ports"), listener, port, protocol)
            for policy in selecting
            for rule in policy["spec"].get(rules) or ()
        )

    def _selecting(self, pod: Endpoint, direction: str) -> Iterable[Document]:
        for policy in self._policies:
            spec = policy["spec"]
            types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
            same = policy["metadata"]["namespace"] == pod.namespace
            if same and direction in types and selects(spec.get("podSelector") or {}, pod.labels):
                yield policy

    def _is_peer(self, peers: Sequence[Document] | None, other: Endpoint, namespace: str) -> bool:
        if not peers:  # missing or empty: everybody
            return True
        return any(self._matches(peer, other, namespace) for peer in peers)

    def _matches(self, peer: Document, other: Endpoint, namespace: str) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return _within(other.address, block["cidr"]) and not any(
                _within(other.address, one) for one in block.get("except") or ()
            )
        if not other.namespace:
            return False
        if "namespaceSelector" in peer:
            if not selects(peer["namespaceSelector"], self._namespaces.get(other.namespace, {})):
                return False
        elif other.namespace != namespace:
            return False
        return selects(peer.get("podSelector") or {}, other.labels)


def selects(selector: Document, labels: Mapping[str, str]) -> bool:
    """A LabelSelector (meta/v1) on labels; the empty one selects everything.

    Raises:
        ValueError: an operator that the API does not know.
    """
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(requirement: Document, labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or ()
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    raise ValueError(f"unknown operator {operator} of a label selector")


def _is_port(ports: Sequence[Document] | None, listener: Endpoint, port: int, protocol: str) -> bool:
    if not ports:  # missing or empty: every port
        return True
    for one in ports:
        wanted = one.get("port")
        if one.get("protocol", "TCP") != protocol:
            continue
        if wanted is None:
            return True
        if isinstance(wanted, str):
            if listener.named_ports.get(wanted) == (protocol, port):
                return True
        elif wanted <= port <= one.get("endPort", wanted):
            return True
    return False


def _within(address: str, block: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(block, strict=False)
