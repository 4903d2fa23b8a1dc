"""Ports that pools on a cluster allow and no gateway reaches: its NetworkPolicy is a manifest, not a setting. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.settings import Settings


def gateway_ports(settings: Settings) -> frozenset[int]:
    """On which ports the gateways' NetworkPolicy, as rendered from these settings, lets them out to jobs' hosts."""
    return frozenset(rule.port for pool in settings.pools for rule in pool.egress)


def closed_ports(rendered: Settings, in_force: Settings) -> Mapping[str, tuple[int, ...]]:
    """By pool whose runners are pods, the ports that it allows now and that were in nobody's egress when the manifests
    were rendered: what the daemon was started with. It may not write NetworkPolicies, so these stay closed."""
    there = gateway_ports(rendered)
    found = {
        pool.name: tuple(sorted({rule.port for rule in pool.egress} - there))
        for pool in in_force.pools
        if pool.backend == "kubernetes"
    }
    return {name: ports for name, ports in found.items() if ports}


def closed_words(closed: Mapping[str, Sequence[int]]) -> Mapping[str, tuple[str, ...]]:
    """The same as what pools lack."""
    return {
        name: tuple(f"network-policy: gateways reach no port {port}; render and apply the manifests" for port in ports)
        for name, ports in closed.items()
    }
