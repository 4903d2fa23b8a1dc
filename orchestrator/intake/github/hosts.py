"""What a runner's program must reach at GitHub to get its job and to report it. Pure.

Source: GitHub's page on communicating with self-hosted runners and the `domains` of `GET /meta`. The result storage is
named account by account: `*.blob.core.windows.net` would let a job write to anybody's account.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from orchestrator.intake.github.urls import Flavour, GitHubUrl
from orchestrator.model.egress import EgressProtocol, EgressRule, narrow

RESULT_ACCOUNTS: Final = 20
"""Storage accounts that github.com keeps logs, summaries, artifacts and caches in, numbered from 0."""


def platform_egress(url: GitHubUrl) -> tuple[EgressRule, ...]:
    """The hosts that belong to a URL.

    On `ghe.com` the result storage differs by region and has to be added by the operator; a server (GHES) is taken to
    serve everything itself.
    """
    match url.flavour:
        case Flavour.GITHUB_COM:
            hosts = (
                "github.com",
                "api.github.com",
                "codeload.github.com",
                "*.actions.githubusercontent.com",
                *(f"productionresultssa{number}.blob.core.windows.net" for number in range(RESULT_ACCOUNTS)),
            )
            return tuple(EgressRule(host) for host in hosts)
        case Flavour.GHE_COM:
            return EgressRule(url.host), EgressRule(f"*.{url.host}")
        case Flavour.SERVER:
            return _server(url)


def _server(url: GitHubUrl) -> tuple[EgressRule, ...]:
    """None for an address instead of a name: the gateway lets jobs reach names only."""
    protocol, default = (EgressProtocol.TLS, 443) if url.encrypted else (EgressProtocol.HTTP, 80)
    parts = urlsplit(f"//{url.host}")
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return (EgressRule(host, parts.port or default, protocol),) if "." in host else ()
    return ()


def uncovered(wanted: Sequence[EgressRule], allowed: Sequence[EgressRule]) -> tuple[EgressRule, ...]:
    """Those of `wanted`, in order, that `allowed` does not contain as a whole."""
    covered = set(narrow(allowed, wanted))
    return tuple(rule for rule in wanted if rule not in covered)
