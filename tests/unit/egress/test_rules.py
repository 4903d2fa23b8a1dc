from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.rules import CANARY_HOST, RuleSet
from orchestrator.errors import ConfigurationError
from orchestrator.model.egress import EgressProtocol, EgressRule

TLS, HTTP = EgressProtocol.TLS, EgressProtocol.HTTP
RULES = RuleSet(
    [
        EgressRule("api.example.com"),
        EgressRule("*.files.example.com", 8443),
        EgressRule("mirror.example.com", 80, HTTP),
        EgressRule("*.example.net"),
        EgressRule("deep.example.net", 444),
    ]
)


@pytest.mark.parametrize(
    ("host", "port", "protocol", "rule"),
    [
        ("api.example.com", 443, TLS, "tls://api.example.com:443"),
        ("API.Example.COM.", 443, TLS, "tls://api.example.com:443"),
        ("a.files.example.com", 8443, TLS, "tls://*.files.example.com:8443"),
        ("a.b.files.example.com", 8443, TLS, "tls://*.files.example.com:8443"),
        ("mirror.example.com", 80, HTTP, "http://mirror.example.com:80"),
        ("deep.example.net", 443, TLS, "tls://*.example.net:443"),
        ("deep.example.net", 444, TLS, "tls://deep.example.net:444"),
    ],
)
def test_allowed(host, port, protocol, rule):
    verdict = RULES.decide(host, port, protocol)
    assert (verdict.allowed, verdict.rule, verdict.reason) == (True, rule, "")
    assert verdict.host == host.lower().rstrip(".")


@pytest.mark.parametrize(
    ("host", "port", "protocol", "reason", "rule"),
    [
        ("example.com", 443, TLS, "host_not_listed", "default deny"),
        ("xapi.example.com", 443, TLS, "host_not_listed", "default deny"),
        ("api.example.com.evil.test", 443, TLS, "host_not_listed", "default deny"),
        ("files.example.com", 8443, TLS, "host_not_listed", "default deny"),  # a suffix does not match itself
        ("xfiles.example.com", 8443, TLS, "host_not_listed", "default deny"),
        ("api.example.com", 80, TLS, "port_not_listed", "tls://api.example.com:443"),
        ("api.example.com", 443, HTTP, "protocol_not_listed", "tls://api.example.com:443"),
        ("mirror.example.com", 80, TLS, "protocol_not_listed", "http://mirror.example.com:80"),
        ("10.0.0.1", 443, TLS, "address_literal", "default deny"),
        ("evil.test\0.example.net", 443, TLS, "bad_host", "default deny"),
        (CANARY_HOST, 443, TLS, "host_not_listed", "default deny"),
    ],
)
def test_denied(host, port, protocol, reason, rule):
    verdict = RULES.decide(host, port, protocol)
    assert (verdict.allowed, verdict.reason, verdict.rule) == (False, reason, rule)
    assert verdict.hint


@given(st.text(max_size=40), st.integers(0, 70000), st.sampled_from(EgressProtocol))
def test_no_rules_allow_nothing(host, port, protocol):
    assert not RuleSet([]).decide(host, port, protocol).allowed


LABELS = st.lists(st.sampled_from(["a", "b", "com"]), min_size=2, max_size=4).map(".".join)


@given(LABELS, LABELS, st.booleans())
def test_matching_is_what_the_model_says(host, name, wildcard):
    rule = EgressRule(f"*.{name}" if wildcard else name)
    expected = host.endswith(f".{name}") if wildcard else host == name
    assert RuleSet([rule]).decide(host, 443, TLS).allowed is expected


def test_the_hint_is_the_line_that_allows():
    refused = RULES.decide("New.Example.org", 8080, HTTP)
    (line,) = yaml.safe_load(refused.hint[refused.hint.index("- {") :])
    added = EgressRule(line["host"], line["port"], EgressProtocol(line["protocol"]))
    assert RuleSet([added]).decide("New.Example.org", 8080, HTTP).allowed


@pytest.mark.parametrize(
    "host", ["*.com", "*", "*.", "*.*.com", "a.*.com", "Example.com", "10.0.0.1", "localhost", "a.com."]
)
def test_rules_that_can_never_match_are_refused(host):
    with pytest.raises(ConfigurationError) as caught:
        RuleSet([EgressRule(host)])
    assert caught.value.reason == "egress_rule_invalid"


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_rules_without_a_port_are_refused(port):
    with pytest.raises(ConfigurationError):
        RuleSet([EgressRule("a.com", port)])
