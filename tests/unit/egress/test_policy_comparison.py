"""Found NetworkPolicies against rendered ones, by meaning: no widening goes unseen, no other wording is drift."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.network_policy import Allowed, Peer, namespace_policies, runner_workload, single
from orchestrator.egress.policy_comparison import MAX_POLICIES, differences
from orchestrator.egress.policy_semantics import Endpoint, PolicySet

RUNNER = {"app": "runner"}
SPACE = "pool"
GATEWAY = Allowed((Peer("orchestrator", {"app": "gateway"}),), (("TCP", 3128),))
API = Allowed((Peer(cidr=single("10.96.0.7")),), (("TCP", 8456),))
RENDERED = namespace_policies(SPACE, (runner_workload(SPACE, RUNNER, (GATEWAY, API)),), {"a": "b"})


def policy(name="more", selector=None, **spec):
    return {"metadata": {"name": name, "namespace": SPACE}, "spec": {"podSelector": selector or {}, **spec}}


def seen(*found):
    return differences(SPACE, [RUNNER], RENDERED, list(found))


def test_the_rendered_ones_and_the_same_in_other_words_are_no_difference():
    assert seen(*RENDERED) == differences(SPACE, [], [], [])
    deny, runner = RENDERED
    parts = [
        policy(f"p{n}", runner["spec"]["podSelector"], egress=[rule], policyTypes=["Egress"])
        for n, rule in enumerate(runner["spec"]["egress"])
    ]
    assert not seen(deny, *parts).wider + seen(deny, *parts).narrower
    two = [policy("in", policyTypes=["Ingress"]), policy("out", policyTypes=["Egress"])]
    assert not seen(*two, runner).wider + seen(*two, runner).narrower
    as_expression = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["runner"]}]}
    again = policy("runner", as_expression, egress=runner["spec"]["egress"], policyTypes=["Egress", "Ingress"])
    assert not seen(deny, again).wider + seen(deny, again).narrower


@pytest.mark.parametrize(
    "more",
    [
        policy(egress=[{}], policyTypes=["Egress"]),
        policy(ingress=[{}]),
        policy(egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}], policyTypes=["Egress"]),
        policy(
            egress=[{"to": [{"ipBlock": {"cidr": "198.51.100.7/32"}}], "ports": [{"port": 22}]}], policyTypes=["Egress"]
        ),
        policy(
            egress=[{"to": [{"ipBlock": {"cidr": "10.96.0.6/31"}}], "ports": [{"port": 8456}]}], policyTypes=["Egress"]
        ),
        policy(
            egress=[{"to": [{"ipBlock": {"cidr": "10.96.0.7/32"}}], "ports": [{"port": 8456, "protocol": "UDP"}]}],
            policyTypes=["Egress"],
        ),
        policy(
            egress=[{"to": [{"ipBlock": {"cidr": "10.96.0.7/32"}}], "ports": [{"port": 8000, "endPort": 9000}]}],
            policyTypes=["Egress"],
        ),
        policy(egress=[{"to": [{"namespaceSelector": {}}]}], policyTypes=["Egress"]),
        policy(
            egress=[{"to": [{"namespaceSelector": {"matchLabels": {"team": "x"}}}], "ports": [{"port": "web"}]}],
            policyTypes=["Egress"],
        ),
        policy(
            egress=[
                {
                    "to": [
                        {
                            "namespaceSelector": {
                                "matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["x"]}]
                            }
                        }
                    ]
                }
            ],
            policyTypes=["Egress"],
        ),
        policy(
            egress=[
                {
                    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "orchestrator"}}}],
                    "ports": [{"port": 3128}],
                }
            ],
            policyTypes=["Egress"],
        ),
        policy(
            egress=[{"to": [{"podSelector": {}}]}],
            policyTypes=["Egress", "Ingress"],
            ingress=[{"from": [{"podSelector": {}}]}],
        ),
        policy("odd", {"matchLabels": {"app": "other"}}, egress=[{}], policyTypes=["Egress"]),
        policy(
            "odd", {"matchExpressions": [{"key": "debug", "operator": "Exists"}]}, egress=[{}], policyTypes=["Egress"]
        ),
        policy(ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/8"}}], "ports": [{"port": 9100}]}]),
    ],
    ids=itertools.count(),
)
def test_an_additional_policy_that_widens_is_seen(more):
    assert seen(*RENDERED, more).wider


@pytest.mark.parametrize("number", [0, 1])
def test_a_policy_that_is_gone_is_seen(number):
    left = seen(RENDERED[1 - number])
    assert left.wider if number == 0 else left.narrower
    assert seen().wider


def test_a_policy_that_adds_nothing_is_none():
    nothing = policy("quiet", {"matchLabels": {"app": "x"}}, policyTypes=["Ingress", "Egress"])
    assert not seen(*RENDERED, nothing).wider


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ValueError, match="more than"):
        seen(*(policy(f"p{n}") for n in range(MAX_POLICIES + 1)))
    with pytest.raises(ValueError, match="unknown operator"):
        seen(policy("odd", {"matchExpressions": [{"key": "a", "operator": "Like"}]}))


_ADDRESSES = st.sampled_from(["10.96.0.6", "10.96.0.7", "10.96.0.8", "10.1.2.3", "198.51.100.7"])
_PEERS = st.one_of(
    st.builds(lambda a, n: {"ipBlock": {"cidr": f"{a}/{n}"}}, _ADDRESSES, st.sampled_from([8, 24, 31, 32])),
    st.builds(
        lambda k: {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": k}}},
        st.sampled_from(["orchestrator", "x"]),
    ),
    st.just(
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "orchestrator"}},
            "podSelector": {"matchLabels": {"app": "gateway"}},
        }
    ),
)
_PORTS = st.builds(
    lambda port, p: {"port": port, "protocol": p}, st.sampled_from([53, 3128, 8456]), st.sampled_from(["TCP", "UDP"])
)
_RULES = st.builds(
    lambda to, ports: {"to": to, "ports": ports},
    st.lists(_PEERS, min_size=1, max_size=2),
    st.lists(_PORTS, min_size=1, max_size=2),
)
_MORE = st.builds(
    lambda rules: policy("more", {"matchLabels": RUNNER}, egress=rules, policyTypes=["Egress"]),
    st.lists(_RULES, min_size=1, max_size=2),
)
_ENDS = st.one_of(
    st.builds(Endpoint, _ADDRESSES),
    st.builds(
        lambda n, labels: Endpoint("192.0.2.9", n, labels),
        st.sampled_from(["orchestrator", "x"]),
        st.sampled_from([{}, {"app": "gateway"}, {"app": "gateway", "v": "2"}]),
    ),
)


@given(_MORE, _ENDS, st.sampled_from([53, 54, 3128, 8456, 8457]), st.sampled_from(["TCP", "UDP"]))
def test_no_connection_that_only_the_found_ones_let_through_is_missed(more, end, port, protocol):
    spaces = {name: {"kubernetes.io/metadata.name": name} for name in ("orchestrator", "x", SPACE)}
    runner = Endpoint("192.0.2.1", SPACE, RUNNER)
    wider = PolicySet([*RENDERED, more], spaces).allows(runner, end, port, protocol) and not PolicySet(
        RENDERED, spaces
    ).allows(runner, end, port, protocol)
    if wider:
        assert seen(*RENDERED, more).wider
