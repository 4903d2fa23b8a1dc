"""Do the NetworkPolicies that a namespace has mean what was rendered? Compared by what they let through. Pure.

Every selector, address block and port that either side names is turned into the connections at which an answer
could change: the smallest set of labels that a selector takes, the first and last address of a block and their
neighbours, a port and its neighbours. Rendered policies select by `matchLabels` only, so what they allow for a
set of labels they allow for any larger one: a connection that only the found ones allow is always among these.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.egress.network_policy import NAMESPACE_NAME
from orchestrator.egress.policy_semantics import Endpoint, PolicySet

Document = Mapping[str, Any]

MAX_POLICIES = 64
"""More than these in one namespace are not compared: it has one that is ours and one that denies."""
_MAX_VARIANTS = 64
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_FRESH = "orchestrator.dev/no-such-label-value"
_SELF = "192.0.2.1"
_OTHER = "192.0.2.2"
_USUAL = ("1.1.1.1", "10.0.0.1", "169.254.169.254", "2606:4700::1111", "fd00:ec2::254")
_USUAL_PORTS = (53, 80, 443)


@dataclass(frozen=True, slots=True)
class Differences:
    """Connections as sentences, a few of each kind: `wider` should be denied and are not, `narrower` the reverse."""

    wider: tuple[str, ...] = ()
    narrower: tuple[str, ...] = ()


def differences(
    namespace: str, pods: Sequence[Mapping[str, str]], rendered: Sequence[Document], found: Sequence[Document]
) -> Differences:
    """Compare what pods with these labels, and any other pod of the namespace, may do under both.

    Raises:
        ValueError: `found` holds something that cannot be compared.
    """
    if len(found) > MAX_POLICIES:
        raise ValueError(f"{len(found)} policies, more than {MAX_POLICIES}")
    both = [*rendered, *found]
    spaces: dict[str, Mapping[str, str]] = {namespace: {NAMESPACE_NAME: namespace}}
    peers = list(_peers(both, namespace, spaces))
    ports, named = _ports(both)
    peers = [replace(peer, named_ports=named) for peer in peers]
    wanted, present = PolicySet(rendered, spaces), PolicySet(found, spaces)
    others = [labels for one in found for labels in _smallest(one["spec"].get("podSelector") or {})]
    subjects = [Endpoint(_SELF, namespace, labels, named) for labels in _unique([*pods, {}, *others])]
    wider: list[str] = []
    narrower: list[str] = []
    for subject, peer, port, protocol in itertools.product(subjects, peers, ports, _PROTOCOLS):
        for source, destination in ((subject, peer), (peer, subject)):
            should = wanted.allows(source, destination, port, protocol)
            if should != present.allows(source, destination, port, protocol):
                _note(narrower if should else wider, source, destination, port, protocol)
        if len(wider) >= 3:
            break
    return Differences(tuple(wider[:3]), tuple(narrower[:3]))


def _note(said: list[str], source: Endpoint, destination: Endpoint, port: int, protocol: str) -> None:
    text = f"{_who(source)} to {_who(destination)}, {protocol} port {port}"
    if len(said) < 3 and text not in said:
        said.append(text)


def _who(end: Endpoint) -> str:
    if not end.namespace:
        return end.address
    labels = ",".join(f"{key}={value}" for key, value in sorted(end.labels.items())) or "no labels"
    return f"a pod with {labels}" if end.address == _SELF else f"a pod of {end.namespace} with {labels}"


def _peers(policies: Iterable[Document], namespace: str, spaces: dict[str, Mapping[str, str]]) -> Iterator[Endpoint]:
    """Every other end at which an answer could change. Namespaces made up for it are added to `spaces`."""
    addresses = set(_USUAL)
    pods: list[tuple[str, Mapping[str, str]]] = [(namespace, {}), (_space({}, spaces), {})]
    for peer in _all_peers(policies):
        if "ipBlock" in peer:
            for block in (peer["ipBlock"]["cidr"], *(peer["ipBlock"].get("except") or ())):
                addresses |= set(_edges(block))
            continue
        homes = [namespace]
        if "namespaceSelector" in peer:
            homes = [_space(labels, spaces) for labels in _smallest(peer["namespaceSelector"])]
        pods += itertools.product(homes, _smallest(peer.get("podSelector") or {}))
    yield from (Endpoint(address) for address in sorted(addresses))
    for home, labels in _unique(pods):
        yield Endpoint(_OTHER, home, labels)


def _all_peers(policies: Iterable[Document]) -> Iterator[Document]:
    for policy in policies:
        for rules, key in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(rules) or ():
                yield from rule.get(key) or ()


def _space(labels: Mapping[str, str], spaces: dict[str, Mapping[str, str]]) -> str:
    """A namespace with exactly these labels; its name is the one they say, if they do."""
    name = labels.get(NAMESPACE_NAME, "") or "elsewhere"
    while name in spaces and dict(spaces[name]) != dict(labels):
        name += "-"
    spaces[name] = labels
    return name


def _smallest(selector: Document) -> list[dict[str, str]]:
    """The smallest label sets that a selector takes.

    Raises:
        ValueError: an operator that the API does not know, or too many values.
    """
    base = dict(selector.get("matchLabels") or {})
    choices: list[list[dict[str, str]]] = []
    for one in selector.get("matchExpressions") or ():
        key, operator = one["key"], one["operator"]
        if operator == "In":
            choices.append([{key: value} for value in one["values"]])
        elif operator == "Exists":
            choices.append([{key: base.get(key, _FRESH)}])
        elif operator not in ("NotIn", "DoesNotExist"):
            raise ValueError(f"unknown operator {operator} of a label selector")
    made: list[dict[str, str]] = []
    for combination in itertools.islice(itertools.product(*choices), _MAX_VARIANTS + 1):
        labels = dict(base)
        for part in combination:
            labels |= part
        made.append(labels)
    if len(made) > _MAX_VARIANTS:
        raise ValueError("a label selector with too many values")
    return made


def _edges(block: str) -> Iterator[str]:
    """First and last address, and those beside them."""
    net = ipaddress.ip_network(block, strict=False)
    highest = 2**net.max_prefixlen - 1
    kind = ipaddress.IPv4Address if net.version == 4 else ipaddress.IPv6Address
    first, last = int(net.network_address), int(net.broadcast_address)
    for number in (first - 1, first, last, last + 1):
        if 0 <= number <= highest:
            yield str(kind(number))


def _ports(policies: Iterable[Document]) -> tuple[list[int], dict[str, tuple[str, int]]]:
    """Numbers at which an answer could change, and a number of its own for each named port."""
    numbers = set(_USUAL_PORTS)
    names: dict[str, tuple[str, int]] = {}
    for policy in policies:
        for rules in ("ingress", "egress"):
            for rule in policy["spec"].get(rules) or ():
                for one in rule.get("ports") or ():
                    port = one.get("port")
                    if isinstance(port, str):
                        names.setdefault(port, (one.get("protocol", "TCP"), 64000 + len(names)))
                    elif port is not None:
                        last = one.get("endPort", port)
                        numbers |= {port - 1, port, last, last + 1}
    numbers |= {number for _, number in names.values()}
    return sorted(number for number in numbers if 0 < number < 65536), names


def _unique(items: Iterable[Any]) -> list[Any]:
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
