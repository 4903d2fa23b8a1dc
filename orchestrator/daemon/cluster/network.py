"""Who may talk to whom in the cluster, from the settings alone: the NetworkPolicies of every namespace. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.backends.kubernetes.manifest import LABEL_INSTALLATION, LABEL_MANAGED_BY, MANAGED_BY
from orchestrator.backends.kubernetes.render.gateway import PROBE_PORT
from orchestrator.backends.kubernetes.render.installation import DAEMON, GATEWAY, RENDERED_BY, component_labels
from orchestrator.daemon.cluster.closed_ports import gateway_ports
from orchestrator.egress.addresses import PUBLIC_BLOCKS
from orchestrator.egress.network_policy import (
    DNS_PORTS,
    Allowed,
    Peer,
    Workload,
    namespace_policies,
    runner_workload,
    single,
)
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

CLUSTER_DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
"""Who answers the daemon's and the gateway's look-ups. Runners have no resolver."""

API_CLIENT_LABEL = "orchestrator.dev/api-client"
"""Namespaces that carry it with `true` may call the daemon's HTTP API and read the gateways' metrics."""

API_SERVER_PORTS = (("TCP", 443), ("TCP", 6443))


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a URL leads: to a Service of ours by name, or to an address."""

    service: str
    namespace: str
    address: str
    port: int


def reach(url: str, setting: str, namespace: str) -> Reach:
    """Take a pod's URL apart.

    Raises:
        ConfigurationError: reason `cluster_url_invalid`, for a host that is neither an address nor a Service
            of `namespace`: no NetworkPolicy can name it.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", _port(url)
    if _is_address(host):
        return Reach("", "", host, port)
    labels = host.split(".")
    if len(labels) >= 3 and labels[1] == namespace and labels[2] == "svc":
        return Reach(labels[0], namespace, "", port)
    raise ConfigurationError(
        f"{setting}: no NetworkPolicy can let pods through to the host of this URL",
        reason="cluster_url_invalid",
        fix=f"use an IP address, or the name of a Service: NAME.{namespace}.svc",
    )


def network_policies(settings: Settings, config: KubernetesConfig) -> dict[str, list[dict[str, Any]]]:
    """By namespace, every policy of the installation.

    Raises:
        ConfigurationError: see `reach`.
    """
    given = settings.kubernetes
    installation = config.installation
    runner = {LABEL_MANAGED_BY: MANAGED_BY, LABEL_INSTALLATION: installation}
    destinations = (_runner_api(settings, given.runner_api.port), _gateway(settings))
    marks = {LABEL_MANAGED_BY: RENDERED_BY, LABEL_INSTALLATION: installation}
    made = {
        pool.namespace: namespace_policies(
            pool.namespace, (runner_workload(pool.namespace, runner, destinations, config.resolver),), marks
        )
        for pool in config.pools.values()
    }
    runners = tuple(Peer(pool.namespace, runner) for _, pool in sorted(config.pools.items()))
    ours = (_daemon_workload(settings, runners), _gateway_workload(settings, runners))
    for namespace in sorted({one.namespace for one in ours}):
        made[namespace] = namespace_policies(namespace, (one for one in ours if one.namespace == namespace), marks)
    return made


def _runner_api(settings: Settings, listening: int) -> Allowed:
    """Policies see the pod behind a Service, and so the port it listens on; an address is met as it is called."""
    given = settings.kubernetes
    to = reach(given.runner_api.url, "kubernetes.runner_api.url", given.namespace)
    if to.address:
        return Allowed((Peer(cidr=single(to.address)),), (("TCP", to.port),))
    return Allowed((Peer(given.namespace, component_labels(given.installation, DAEMON)),), (("TCP", listening),))


def _gateway(settings: Settings) -> Allowed:
    given = settings.kubernetes
    to = reach(given.gateway.url, "kubernetes.gateway.url", given.gateway.namespace)
    if to.address:
        return Allowed((Peer(cidr=single(to.address)),), (("TCP", to.port),))
    pods = Peer(given.gateway.namespace, component_labels(given.installation, GATEWAY))
    return Allowed((pods,), (("TCP", to.port),))


def _daemon_workload(settings: Settings, runners: tuple[Peer, ...]) -> Workload:
    given = settings.kubernetes
    gateways = Peer(given.gateway.namespace, component_labels(given.installation, GATEWAY))
    clients = Peer(namespace_labels={API_CLIENT_LABEL: "true"})
    ingress = [
        Allowed((*runners, gateways), (("TCP", given.runner_api.port),)),
        Allowed((clients,), (("TCP", settings.server.port),)),
    ]
    outside = tuple(Peer(cidr=cidr) for cidr in given.api_server_cidrs)
    if outside and settings.deployment.namespaces:
        ingress.append(Allowed(outside, (("TCP", settings.deployment.webhook.port),)))
    egress = [Allowed((CLUSTER_DNS,), DNS_PORTS)]
    if outside:
        egress.append(Allowed(outside, API_SERVER_PORTS))
    opa = settings.policy.opa_url if settings.policy.engine == "opa" else ""
    servers = (settings.telemetry.otlp_endpoint, opa, *_anchors(settings), *_partners(settings), *_elsewhere(settings))
    for towards in (_towards(url) for url in servers if url):
        if towards not in egress:
            egress.append(towards)
    labels = component_labels(given.installation, DAEMON)
    return Workload("daemon", given.namespace, labels, tuple(ingress), tuple(egress))


def _anchors(settings: Settings) -> Iterator[str]:
    """Where checkpoints of the audit log are sent."""
    for anchor in settings.audit.anchors if settings.audit.enabled else ():
        if anchor.http is not None:
            yield anchor.http.url
        elif anchor.object_store is not None:
            yield anchor.object_store.url


def _partners(settings: Settings) -> Iterator[str]:
    """Who is told of jobs, where people sign in for the page, and the tracker that is asked for tickets."""
    yield from (one.url for one in settings.notifications.endpoints)
    if settings.page.enabled:
        yield from (one.issuer for one in settings.page.providers)
    tracker = settings.promotion.tickets
    if tracker is not None:
        yield tracker.proxy or tracker.url


def _elsewhere(settings: Settings) -> Iterator[str]:
    """Of GitHub and callers' issuers, which `api_server_cidrs` are for: what is on another port, or behind a proxy."""
    known = {port for _, port in API_SERVER_PORTS}
    sources = [(one.url, one.proxy) for one in settings.github]
    apps = [(one.url, one.proxy) for one in settings.identity.github_apps.values()]
    for url, proxy in (*sources, *apps):
        if proxy:
            yield proxy
        elif _port(url) not in known:
            yield url
    for caller in settings.callers:
        if caller.jwks_file is None and _is_url(caller.issuer) and _port(caller.issuer) not in known:
            yield caller.issuer


def _gateway_workload(settings: Settings, runners: tuple[Peer, ...]) -> Workload:
    """Out to public addresses, on the ports that any pool allows, and to what the operator named by address."""
    given = settings.kubernetes
    port = reach(given.gateway.url, "kubernetes.gateway.url", given.gateway.namespace).port
    egress = [Allowed((CLUSTER_DNS,), DNS_PORTS), _runner_api(settings, given.runner_api.port)]
    ports = tuple(("TCP", one) for one in sorted(gateway_ports(settings)))
    if ports:
        public = tuple(Peer(cidr=cidr, excluded=excluded) for cidr, excluded in PUBLIC_BLOCKS)
        egress.append(Allowed((*public, *_named(settings.egress.names.values())), ports))
    labels = component_labels(given.installation, GATEWAY)
    scrapers = Allowed((Peer(namespace_labels={API_CLIENT_LABEL: "true"}),), (("TCP", PROBE_PORT),))
    ingress = (Allowed(runners, (("TCP", port),)), scrapers)
    return Workload("gateway", given.gateway.namespace, labels, ingress, tuple(egress))


def _named(addresses: Iterable[str]) -> tuple[Peer, ...]:
    return tuple(Peer(cidr=single(str(ipaddress.ip_address(one)))) for one in sorted(set(addresses)))


def _towards(url: str) -> Allowed:
    """A server of the operator's: all pods of a Service's namespace, an address, or anywhere on that port."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", _port(url)
    labels = host.split(".")
    if _is_address(host):
        peers: tuple[Peer, ...] = (Peer(cidr=single(host)),)
    elif len(labels) >= 3 and labels[2] == "svc":
        peers = (Peer(labels[1]),)
    else:
        peers = (Peer(cidr="0.0.0.0/0"), Peer(cidr="::/0"))
    return Allowed(peers, (("TCP", port),))


def _is_url(text: str) -> bool:
    """An issuer may be any text, and then nothing is fetched from it."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
