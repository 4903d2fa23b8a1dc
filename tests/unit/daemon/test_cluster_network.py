"""Who reaches whom, decided by the semantics of the rendered policies over random pods, ports and namespaces."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.daemon.cluster.network import network_policies, reach
from orchestrator.daemon.cluster.slice import kubernetes_config
from orchestrator.egress.policy_semantics import Endpoint, PolicySet
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

RUNNER = {"app.kubernetes.io/managed-by": "orchestrator", "orchestrator.dev/installation": "default"}
OURS = {"app.kubernetes.io/name": "orchestrator", "orchestrator.dev/installation": "default"}
DAEMON = {**OURS, "app.kubernetes.io/component": "daemon"}
GATEWAY = {**OURS, "app.kubernetes.io/component": "gateway"}


def settings(**kubernetes: Any) -> Settings:
    return Settings.model_validate(
        {
            "pools": [
                {"name": "one", "backend": "kubernetes", "egress": [{"host": "example.org"}]},
                {"name": "two", "backend": "kubernetes", "egress": [{"host": "a.internal", "port": 8080}]},
                {"name": "local", "backend": "sandbox"},
            ],
            "egress": {"names": {"a.internal": "10.9.9.9"}},
            "kubernetes": {"agent_image": "registry.example/agent:1", **kubernetes},
        }
    )


def policy_set(given_settings: Settings) -> PolicySet:
    by_namespace = network_policies(given_settings, kubernetes_config(given_settings))
    names = ["orchestrator", "runners-one", "runners-two", "kube-system", "edge", "tenant", "gateways"]
    labels = {name: {"kubernetes.io/metadata.name": name} for name in names}
    labels["edge"]["orchestrator.dev/api-client"] = "true"
    return PolicySet([one for group in by_namespace.values() for one in group], labels)


PLAIN = policy_set(settings())
RESOLVING = policy_set(settings(resolver="fd00::53"))
APART = policy_set(settings(gateway={"namespace": "gateways", "url": "http://orchestrator-gateway.gateways.svc:3128"}))

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
values = st.sampled_from(["orchestrator", "default", "daemon", "gateway", "other", "kube-dns"])
labels = st.one_of(
    st.sampled_from([RUNNER, DAEMON, GATEWAY, {"k8s-app": "kube-dns"}, {}]),
    st.dictionaries(st.sampled_from([*RUNNER, *DAEMON, "k8s-app"]), values),
)
namespaces = st.sampled_from(["orchestrator", "runners-one", "runners-two", "kube-system", "edge", "tenant", "unknown"])
endpoints = st.one_of(st.builds(Endpoint, addresses), st.builds(Endpoint, addresses, namespaces, labels))
ports = st.one_of(st.sampled_from([53, 80, 443, 3128, 6443, 8080, 8455, 8456, 8457, 10250]), st.integers(1, 65535))
protocols = st.sampled_from(["TCP", "UDP", "SCTP"])
runners = st.builds(
    Endpoint, addresses, st.sampled_from(["runners-one", "runners-two"]), labels.map(lambda extra: {**extra, **RUNNER})
)


def includes(pod: Endpoint, wanted: dict[str, str]) -> bool:
    return wanted.items() <= pod.labels.items()


@given(runners, endpoints, ports, protocols)
def test_a_runner_reaches_gateway_and_runner_api_and_nothing_else(
    runner: Endpoint, other: Endpoint, port: int, protocol: str
):
    expected = other.namespace == "orchestrator" and (
        (includes(other, DAEMON) and (port, protocol) == (8456, "TCP"))
        or (includes(other, GATEWAY) and (port, protocol) == (3128, "TCP"))
    )
    assert PLAIN.allows(runner, other, port, protocol) is expected


@pytest.mark.parametrize("namespace", ["runners-one", "runners-two"])
@pytest.mark.parametrize("address", ["10.0.0.7", "fd00::7"])
def test_what_a_runner_needs_it_has(namespace: str, address: str):
    runner = Endpoint("10.0.0.1", namespace, RUNNER)
    assert PLAIN.allows(runner, Endpoint(address, "orchestrator", DAEMON), 8456)
    assert PLAIN.allows(runner, Endpoint(address, "orchestrator", GATEWAY), 3128)
    assert APART.allows(runner, Endpoint(address, "gateways", GATEWAY), 3128)
    assert not APART.allows(runner, Endpoint(address, "orchestrator", GATEWAY), 3128)


@given(endpoints, runners, ports, protocols)
def test_nobody_reaches_a_runner(other: Endpoint, runner: Endpoint, port: int, protocol: str):
    for policies in (PLAIN, RESOLVING, APART):
        assert not policies.allows(other, runner, port, protocol)


@given(runners, endpoints, ports, protocols)
def test_a_resolver_adds_exactly_itself(runner: Endpoint, other: Endpoint, port: int, protocol: str):
    assert RESOLVING.allows(runner, other, port, protocol) is PLAIN.allows(runner, other, port, protocol)
    named = Endpoint("fd00::53")
    assert RESOLVING.allows(runner, named, port, protocol) is (port == 53 and protocol in {"TCP", "UDP"})
    assert RESOLVING.allows(runner, Endpoint("fd00::53"), 53, "UDP")


@given(endpoints, endpoints, ports, protocols)
def test_only_runners_and_gateways_reach_the_runner_api(source: Endpoint, daemon: Endpoint, port: int, protocol: str):
    daemon = Endpoint(daemon.address, "orchestrator", DAEMON)
    if not PLAIN.allows(source, daemon, port, protocol):
        return
    runner = source.namespace in {"runners-one", "runners-two"} and includes(source, RUNNER)
    gateway = source.namespace == "orchestrator" and includes(source, GATEWAY)
    client = source.namespace == "edge"
    assert protocol == "TCP"
    assert (port == 8456 and (runner or gateway)) or (port == 8455 and client)


@given(st.ip_addresses(), ports)
def test_gateways_reach_what_pools_allow_of_the_public_internet(address: Any, port: int):
    from orchestrator.egress.addresses import is_public

    gateway = Endpoint("10.0.0.2", "orchestrator", GATEWAY)
    if PLAIN.allows(gateway, Endpoint(str(address)), port):
        assert port in {443, 8080}
        assert is_public(str(address)) or str(address) == "10.9.9.9" or _isatap(address)


def _isatap(address: Any) -> bool:
    """The one kind of address that the gateway refuses and no block can name."""
    packed: bytes = ipaddress.ip_address(address).packed
    return packed[8:12] in {b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"}


def test_gateways_reach_names_with_private_addresses_and_no_others():
    gateway = Endpoint("10.0.0.2", "orchestrator", GATEWAY)
    assert PLAIN.allows(Endpoint("10.0.0.4", "edge"), gateway, 8457)
    assert not PLAIN.allows(Endpoint("10.0.0.4", "edge"), gateway, 3128)
    assert not PLAIN.allows(Endpoint("10.0.0.4", "tenant"), gateway, 8457)
    assert PLAIN.allows(gateway, Endpoint("10.9.9.9"), 8080)
    assert not PLAIN.allows(gateway, Endpoint("10.9.9.8"), 8080)
    assert not PLAIN.allows(gateway, Endpoint("169.254.169.254"), 443)
    assert PLAIN.allows(gateway, Endpoint("1.1.1.1"), 443)
    assert PLAIN.allows(gateway, Endpoint("2606:4700::1111"), 443)
    assert not PLAIN.allows(gateway, Endpoint("10.0.0.3", "runners-one", RUNNER), 8080)


def test_strangers_in_our_namespaces_are_cut_off():
    for namespace in ("orchestrator", "runners-one"):
        stranger = Endpoint("10.0.0.5", namespace, {"app": "x"})
        assert PLAIN.isolated(stranger, "Ingress")
        assert PLAIN.isolated(stranger, "Egress")
        assert not PLAIN.allows(stranger, Endpoint("1.1.1.1"), 443)


def test_an_address_in_the_url_is_let_through_as_an_address():
    policies = policy_set(
        settings(runner_api={"url": "https://10.4.0.1:9000"}, gateway={"url": "http://[fd00::9]:3128"})
    )
    runner = Endpoint("10.0.0.1", "runners-one", RUNNER)
    assert policies.allows(runner, Endpoint("10.4.0.1"), 9000)
    assert policies.allows(runner, Endpoint("fd00::9"), 3128)
    assert not policies.allows(runner, Endpoint("10.4.0.1"), 9001)
    assert not policies.allows(runner, Endpoint("10.4.0.2"), 9000)


def partners(**more: Any) -> Settings:
    """Whoever a daemon talks to for people, each at an address of its own."""
    hook = {"key_files": ["/etc/keys/hook"], "allow_private": True}
    ticket = {"url": "https://10.7.0.4/issue/{id}"}
    return Settings.model_validate(
        {
            "pools": [{"name": "one", "backend": "kubernetes"}],
            "kubernetes": {"agent_image": "registry.example/agent:1", "api_server_cidrs": ["10.0.0.0/28"]},
            "notifications": {
                "endpoints": [
                    {"name": "inside", "url": "http://hooks.tenant.svc:8080/jobs", **hook},
                    {"name": "address", "url": "https://10.7.0.2:8443/jobs", **hook},
                    {"name": "again", "url": "https://10.7.0.2:8443/others", **hook},
                ]
            },
            "page": {
                "providers": [
                    {"name": "staff", "issuer": "https://10.7.0.3:9443", "client_id": "x", "viewer": [{"sub": ".+"}]}
                ]
            },
            "promotion": {"tickets": ticket},
        }
        | more
    )


def test_the_daemon_reaches_who_is_told_of_jobs_and_where_people_sign_in():
    """Or messages wait in the outbox, and nobody gets in, as soon as the ranges are narrowed or a port is another."""
    given_settings = partners()
    policies = policy_set(given_settings)
    daemon = Endpoint("10.0.0.9", "orchestrator", DAEMON)
    assert policies.allows(daemon, Endpoint("10.0.8.8", "tenant"), 8080)
    assert not policies.allows(daemon, Endpoint("10.0.8.8", "edge"), 8080)
    for address, port in (("10.7.0.2", 8443), ("10.7.0.3", 9443), ("10.7.0.4", 443)):
        assert policies.allows(daemon, Endpoint(address), port)
        assert not policies.allows(daemon, Endpoint(address), port + 1)
    (policy,) = [
        one
        for one in network_policies(given_settings, kubernetes_config(given_settings))["orchestrator"]
        if one["metadata"]["name"] == "daemon"
    ]
    assert sum(rule["ports"] == [{"protocol": "TCP", "port": 8443}] for rule in policy["spec"]["egress"]) == 1


def test_the_daemon_reaches_no_provider_of_a_page_that_is_not_served_and_a_proxy_instead_of_the_tracker():
    provider = {"name": "staff", "issuer": "https://10.7.0.3:9443", "client_id": "x", "viewer": [{"sub": ".+"}]}
    ticket = {"url": "https://10.7.0.4/issue/{id}", "proxy": "http://10.7.0.5:3128"}
    given_settings = partners(page={"enabled": False, "providers": [provider]}, promotion={"tickets": ticket})
    policies = policy_set(given_settings)
    daemon = Endpoint("10.0.0.9", "orchestrator", DAEMON)
    assert not policies.allows(daemon, Endpoint("10.7.0.3"), 9443)
    assert not policies.allows(daemon, Endpoint("10.7.0.4"), 443)
    assert policies.allows(daemon, Endpoint("10.7.0.5"), 3128)


def test_the_daemon_reaches_github_and_issuers_on_ports_of_their_own_and_by_proxies():
    """On 443 the ranges say where they are; nothing is opened for them there."""
    github = {"scale_sets": [{"name": "linux", "pool": "one"}], "token_file": "/etc/token"}
    callers = [
        {"issuer": "https://10.7.1.3:9443", "audience": "x", "require": {"sub": "."}},
        {"issuer": "https://10.7.1.4:9443", "audience": "x", "jwks_file": "/etc/jwks.json", "require": {"sub": "."}},
        {"issuer": "no address", "audience": "x", "require": {"sub": "."}},
        {"issuer": "https://10.7.1.6:port", "audience": "x", "require": {"sub": "."}},
    ]
    given_settings = partners(
        github=[
            {"name": "own-port", "url": "https://10.7.1.1:8443/org", **github},
            {"name": "by-proxy", "url": "https://github.com/org", "proxy": "http://10.7.1.2:3128", **github},
            {"name": "plain", "url": "https://10.7.1.5/org", **github},
        ],
        callers=callers,
    )
    policies = policy_set(given_settings)
    daemon = Endpoint("10.0.0.9", "orchestrator", DAEMON)
    for address, port in (("10.7.1.1", 8443), ("10.7.1.2", 3128), ("10.7.1.3", 9443)):
        assert policies.allows(daemon, Endpoint(address), port)
        assert not policies.allows(daemon, Endpoint(address), 443)
    for address, port in (("10.7.1.4", 9443), ("10.7.1.5", 443), ("10.7.1.6", 443), ("10.7.1.7", 80)):
        assert not policies.allows(daemon, Endpoint(address), port)


def test_the_daemon_reaches_what_it_is_told_of():
    given_settings = Settings.model_validate(
        {
            "pools": [{"name": "one", "backend": "kubernetes"}],
            "kubernetes": {"agent_image": "registry.example/agent:1", "api_server_cidrs": ["10.0.0.0/28"]},
            "telemetry": {"otlp_endpoint": "http://otel.tenant.svc:4318"},
            "policy": {"engine": "opa", "opa_url": "http://10.7.7.7:8181"},
            "audit": {
                "anchors": [
                    {"file": "/mnt/kept"},
                    {"http": {"url": "http://10.7.7.8:9000/checkpoints"}},
                    {"object_store": {"url": "https://10.7.7.9/bucket", "credentials_file": "/etc/credentials"}},
                ]
            },
        }
    )
    policies = policy_set(given_settings)
    daemon = Endpoint("10.0.0.9", "orchestrator", DAEMON)
    assert policies.allows(daemon, Endpoint("10.0.0.1"), 6443)
    assert not policies.allows(daemon, Endpoint("10.0.1.1"), 6443)
    assert policies.allows(daemon, Endpoint("10.0.8.8", "tenant"), 4318)
    assert not policies.allows(daemon, Endpoint("10.0.8.8", "edge"), 4318)
    assert policies.allows(daemon, Endpoint("10.7.7.7"), 8181)
    assert policies.allows(daemon, Endpoint("10.7.7.8"), 9000)
    assert policies.allows(daemon, Endpoint("10.7.7.9"), 443)
    assert not policies.allows(daemon, Endpoint("10.7.7.9"), 9000)
    assert policies.allows(daemon, Endpoint("10.0.8.9", "kube-system", {"k8s-app": "kube-dns"}), 53, "UDP")
    assert not policies.allows(daemon, Endpoint("10.0.8.9", "kube-system", {"k8s-app": "other"}), 53, "UDP")


@pytest.mark.parametrize(
    "url", ["https://runners.example.com", "https://api.elsewhere.svc:1", "https://api.orchestrator", "https://api"]
)
def test_a_host_that_no_policy_can_name_is_refused(url: str):
    with pytest.raises(ConfigurationError) as refused:
        reach(url, "kubernetes.runner_api.url", "orchestrator")
    assert refused.value.reason == "cluster_url_invalid"
