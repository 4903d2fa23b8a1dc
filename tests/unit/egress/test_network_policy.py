"""What a rendered set lets through, decided by the evaluator of its semantics."""

from __future__ import annotations

import pytest

from orchestrator.egress.addresses import PUBLIC_BLOCKS, is_public
from orchestrator.egress.network_policy import Allowed, Peer, Workload, namespace_policies, runner_workload, single
from orchestrator.egress.policy_semantics import Endpoint, PolicySet

GATEWAY = Allowed((Peer("core", {"app": "gateway"}),), (("TCP", 3128),))
RUNNER = Endpoint("10.0.0.1", "jobs", {"kind": "runner"})


def policies(resolver: str = "") -> PolicySet:
    workload = runner_workload("jobs", {"kind": "runner"}, (GATEWAY,), resolver)
    return PolicySet(
        namespace_policies("jobs", (workload,), {}), {"core": {"kubernetes.io/metadata.name": "core"}, "jobs": {}}
    )


def test_a_runner_reaches_the_gateway_and_nothing_beside_it():
    gateway = Endpoint("10.0.1.1", "core", {"app": "gateway"})
    assert policies().allows(RUNNER, gateway, 3128)
    assert not policies().allows(RUNNER, gateway, 3129)
    assert not policies().allows(RUNNER, gateway, 3128, "UDP")
    assert not policies().allows(RUNNER, Endpoint("10.0.1.1", "core", {"app": "other"}), 3128)
    assert not policies().allows(RUNNER, Endpoint("10.0.1.1", "fake", {"app": "gateway"}), 3128)
    assert not policies().allows(RUNNER, Endpoint("10.0.1.1"), 3128)


def test_a_stranger_in_the_namespace_reaches_nothing():
    stranger = Endpoint("10.0.0.9", "jobs", {"kind": "other"})
    assert policies().isolated(stranger, "Egress")
    assert not policies().allows(stranger, Endpoint("10.0.1.1", "core", {"app": "gateway"}), 3128)
    assert not policies().allows(stranger, RUNNER, 3128)


@pytest.mark.parametrize("resolver", ["10.96.0.10", "fd00::10"])
def test_only_the_resolver_named_answers(resolver: str):
    named = policies(resolver)
    assert named.allows(RUNNER, Endpoint(resolver), 53, "UDP")
    assert named.allows(RUNNER, Endpoint(resolver), 53, "TCP")
    assert not named.allows(RUNNER, Endpoint(resolver), 853)
    assert not policies().allows(RUNNER, Endpoint(resolver), 53, "UDP")
    assert not named.allows(RUNNER, Endpoint("fd00::11"), 53, "UDP")


def test_what_would_mean_everybody_cannot_be_said():
    with pytest.raises(ValueError, match="every pod"):
        Peer().document()
    with pytest.raises(ValueError, match="allow all"):
        Allowed((), (("TCP", 1),))
    with pytest.raises(ValueError, match="allow all"):
        Allowed((Peer("core"),), ())
    with pytest.raises(ValueError, match="does not select"):
        namespace_policies("jobs", (Workload("x", "jobs", {}),), {})
    with pytest.raises(ValueError, match="does not select"):
        namespace_policies("jobs", (Workload("x", "core", {"a": "b"}),), {})


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "10.1.2.3", "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.168.0.1", "127.0.0.1"),
        *("2606:4700::1111", "fd00:ec2::254", "fe80::1", "2001:db8::1", "2002:a00:1::1", "64:ff9b::a00:1", "::1"),
    ],
)
def test_the_public_blocks_are_what_the_gateway_calls_public(address: str):
    peers = tuple(Peer(cidr=cidr, excluded=excluded) for cidr, excluded in PUBLIC_BLOCKS)
    workload = Workload("out", "core", {"app": "gateway"}, egress=(Allowed(peers, (("TCP", 443),)),))
    gateway = Endpoint("10.0.1.1", "core", {"app": "gateway"})
    assert PolicySet(namespace_policies("core", (workload,), {}), {}).allows(
        gateway, Endpoint(address), 443
    ) is is_public(address)


def test_a_single_address_is_a_block_of_its_family():
    assert (single("10.0.0.1"), single("fd00::1")) == ("10.0.0.1/32", "fd00::1/128")
