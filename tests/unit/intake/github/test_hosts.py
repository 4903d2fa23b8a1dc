"""The hosts that a runner's program needs, by the form of the URL."""

from __future__ import annotations

import pytest

from orchestrator.egress.rules import RuleSet
from orchestrator.intake.github.hosts import platform_egress, uncovered
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.model.egress import EgressProtocol, EgressRule


def hosts(url: str) -> set[str]:
    return {str(rule) for rule in platform_egress(parse_github_url(url))}


@pytest.mark.parametrize("url", ["https://github.com/acme", "https://www.github.com/acme/shop"])
def test_the_common_github_and_nobody_elses_storage(url):
    found = hosts(url)
    assert {"tls://github.com:443", "tls://*.actions.githubusercontent.com:443"} <= found
    assert "tls://productionresultssa19.blob.core.windows.net:443" in found
    rules = RuleSet(platform_egress(parse_github_url(url)))
    assert not rules.decide("somebody.blob.core.windows.net", 443, EgressProtocol.TLS).allowed
    assert not rules.decide("raw.githubusercontent.com", 443, EgressProtocol.TLS).allowed
    assert rules.decide("pipelines.actions.githubusercontent.com", 443, EgressProtocol.TLS).allowed


def test_a_companys_own_cloud():
    assert hosts("https://octo.ghe.com/acme") == {"tls://octo.ghe.com:443", "tls://*.octo.ghe.com:443"}


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://ghes.example/acme", "tls://ghes.example:443"),
        ("https://ghes.example:8443/acme/shop", "tls://ghes.example:8443"),
        ("http://ghes.example/acme", "http://ghes.example:80"),
    ],
)
def test_a_server_serves_everything_itself(url, rule):
    assert hosts(url) == {rule}


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/acme", "https://[::1]:8443/acme", "https://ghes/acme"])
def test_what_no_gateway_rule_can_name_has_to_be_configured(url):
    assert hosts(url) == set()


def test_uncovered_names_what_a_pool_lacks():
    wanted = (EgressRule("github.com"), EgressRule("*.actions.githubusercontent.com"), EgressRule("a.example", 8443))
    assert uncovered(wanted, wanted) == ()
    assert uncovered(wanted, ()) == wanted
    allowed = (EgressRule("*.githubusercontent.com"), EgressRule("a.example"), EgressRule("github.com"))
    assert uncovered(wanted, allowed) == (EgressRule("a.example", 8443),)
    narrower = (EgressRule("x.actions.githubusercontent.com"), *wanted[:1], *wanted[2:])
    assert uncovered(wanted, narrower) == (wanted[1],), "a part of what is wanted is not enough"
    plain = (EgressRule("github.com", 443, EgressProtocol.HTTP),)
    assert uncovered(wanted[:1], plain) == wanted[:1]
