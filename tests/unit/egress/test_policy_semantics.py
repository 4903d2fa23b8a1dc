"""The evaluator itself, against what the Kubernetes documentation says of each field."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.egress.policy_semantics import Endpoint, PolicySet, selects

NAMESPACES = {"a": {"team": "red", "kubernetes.io/metadata.name": "a"}, "b": {"team": "blue"}}
A = Endpoint("10.0.0.1", "a", {"app": "one"})
OTHER_A = Endpoint("10.0.0.2", "a", {"app": "two"}, {"web": ("TCP", 8080)})
B = Endpoint("10.0.1.1", "b", {"app": "one"})
OUTSIDE = Endpoint("192.0.2.1")


def policy(namespace: str = "a", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"podSelector": {}, **spec}}


def one(**spec: Any) -> PolicySet:
    return PolicySet([policy(**spec)], NAMESPACES)


def egress(*peers: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> PolicySet:
    rule: dict[str, Any] = {"to": list(peers)} | ({"ports": ports} if ports is not None else {})
    return one(policyTypes=["Egress"], egress=[rule])


def test_pods_without_policies_are_open_both_ways():
    assert PolicySet([], NAMESPACES).allows(A, B, 1)
    assert PolicySet([policy("b", policyTypes=["Ingress", "Egress"])], NAMESPACES).allows(A, OUTSIDE, 1)


def test_deny_by_direction():
    assert not one(policyTypes=["Egress"]).allows(A, B, 1)
    assert one(policyTypes=["Egress"]).allows(B, A, 1)
    assert not one(policyTypes=["Ingress"]).allows(B, A, 1)
    assert not one(policyTypes=["Ingress"]).allows(OUTSIDE, A, 1)


def test_types_left_out_are_ingress_and_egress_only_where_it_has_rules():
    assert one().allows(A, B, 1)
    assert not one().allows(B, A, 1)
    assert not one(egress=[{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]).allows(A, B, 1)


def test_both_ends_must_agree():
    out, into = policy("a", policyTypes=["Egress"], egress=[{}]), policy("b", policyTypes=["Ingress"])
    assert PolicySet([out], NAMESPACES).allows(A, B, 1)
    assert not PolicySet([out, into], NAMESPACES).allows(A, B, 1)


def test_policies_add_up():
    assert PolicySet([policy(policyTypes=["Egress"]), policy(policyTypes=["Egress"], egress=[{}])], NAMESPACES).allows(
        A, B, 1
    )


def test_an_empty_rule_is_everybody_and_an_empty_list_of_rules_nobody():
    assert one(policyTypes=["Egress"], egress=[{}]).allows(A, OUTSIDE, 9, "UDP")
    assert one(policyTypes=["Egress"], egress=[{"to": []}]).allows(A, OUTSIDE, 9)
    assert not one(policyTypes=["Egress"], egress=[]).allows(A, OUTSIDE, 9)


def test_a_pod_selector_alone_means_the_same_namespace():
    allowed = egress({"podSelector": {"matchLabels": {"app": "one"}}})
    assert allowed.allows(A, A, 1)
    assert not allowed.allows(A, B, 1)
    assert not allowed.allows(A, OTHER_A, 1)


def test_two_selectors_of_one_peer_must_both_match_and_two_peers_either():
    red, two = {"matchLabels": {"team": "red"}}, {"matchLabels": {"app": "two"}}
    both = egress({"namespaceSelector": red, "podSelector": two})
    either = egress({"namespaceSelector": red}, {"podSelector": two})
    assert [both.allows(A, other, 1) for other in (A, OTHER_A, B)] == [False, True, False]
    assert [either.allows(A, other, 1) for other in (A, OTHER_A, B)] == [True, True, False]


def test_selectors_never_match_addresses_outside():
    assert not egress({"namespaceSelector": {}}).allows(A, OUTSIDE, 1)


def test_blocks_have_exceptions_and_one_family():
    allowed = egress({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.128/25"]}})
    assert allowed.allows(A, OUTSIDE, 1)
    assert not allowed.allows(A, Endpoint("192.0.2.200"), 1)
    assert not allowed.allows(A, Endpoint("2001:db8::1"), 1)
    assert egress({"ipBlock": {"cidr": "2000::/3"}}).allows(A, Endpoint("2001:db8::1"), 1)


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "allowed"),
    [
        (None, 7, "UDP", True),
        ([], 7, "UDP", True),
        ([{"port": 80}], 80, "TCP", True),
        ([{"port": 80}], 80, "UDP", False),
        ([{"port": 80}], 81, "TCP", False),
        ([{"port": 80, "endPort": 82}], 82, "TCP", True),
        ([{"port": 80, "endPort": 82}], 83, "TCP", False),
        ([{"protocol": "UDP"}], 53, "UDP", True),
        ([{"protocol": "UDP"}], 53, "TCP", False),
        ([{"port": "web"}], 8080, "TCP", True),
        ([{"port": "web"}], 80, "TCP", False),
        ([{"port": "other"}], 8080, "TCP", False),
    ],
)
def test_ports(ports: list[dict[str, Any]] | None, port: int, protocol: str, allowed: bool):
    assert egress({"podSelector": {}}, ports=ports).allows(A, OTHER_A, port, protocol) is allowed


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "app", "operator": "In", "values": ["one", "x"]}, True),
        ({"key": "app", "operator": "In", "values": ["x"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["one"]}, False),
        ({"key": "none", "operator": "NotIn", "values": ["one"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "none", "operator": "Exists"}, False),
        ({"key": "none", "operator": "DoesNotExist"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_expressions(expression: dict[str, Any], matches: bool):
    assert selects({"matchExpressions": [expression]}, {"app": "one"}) is matches


def test_an_unknown_operator_is_an_error():
    with pytest.raises(ValueError, match="Near"):
        selects({"matchExpressions": [{"key": "app", "operator": "Near"}]}, {})
