"""Configuration URLs: every form that the Go clients take, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.intake.github.urls import Flavour, Scope, parse_github_url


@pytest.mark.parametrize(
    ("text", "scope", "api", "path"),
    [
        ("https://github.com/acme", Scope.ORGANIZATION, "https://api.github.com", "/orgs/acme"),
        ("https://github.com/acme/", Scope.ORGANIZATION, "https://api.github.com", "/orgs/acme"),
        ("https://www.github.com/acme/shop", Scope.REPOSITORY, "https://api.github.com", "/repos/acme/shop"),
        ("https://GitHub.com/enterprises/Big", Scope.ENTERPRISE, "https://api.github.com", "/enterprises/Big"),
        ("https://github.com/Enterprises/Big/", Scope.ENTERPRISE, "https://api.github.com", "/enterprises/Big"),
        ("http://github.localhost/acme/shop", Scope.REPOSITORY, "http://api.github.localhost", "/repos/acme/shop"),
        ("https://sub.ghe.com/acme", Scope.ORGANIZATION, "https://api.sub.ghe.com", "/orgs/acme"),
        ("https://ghes.example/acme/shop", Scope.REPOSITORY, "https://ghes.example/api/v3", "/repos/acme/shop"),
        ("https://ghes.example:8443/acme", Scope.ORGANIZATION, "https://ghes.example:8443/api/v3", "/orgs/acme"),
        ("http://127.0.0.1:8080/acme", Scope.ORGANIZATION, "http://127.0.0.1:8080/api/v3", "/orgs/acme"),
        ("http://[::1]:8080/acme", Scope.ORGANIZATION, "http://[::1]:8080/api/v3", "/orgs/acme"),
        (
            "https://github.com.evil.example/acme",
            Scope.ORGANIZATION,
            "https://github.com.evil.example/api/v3",
            "/orgs/acme",
        ),
    ],
)
def test_forms(text, scope, api, path):
    url = parse_github_url(text)
    assert (url.scope, url.api_base, url.api_path) == (scope, api, path)
    assert not url.text.endswith("/")
    assert parse_github_url(url.text) == url


def test_issuers():
    assert parse_github_url("https://github.com/a").oidc_issuer == "https://token.actions.githubusercontent.com"
    assert parse_github_url("https://sub.ghe.com/a").oidc_issuer == "https://token.actions.sub.ghe.com"
    assert parse_github_url("https://ghes.example/a").oidc_issuer == "https://ghes.example/_services/token"


def test_any_host_can_be_said_to_be_a_server():
    url = parse_github_url("https://github.com/acme", force_server=True)
    assert (url.flavour, url.api_base) == (Flavour.SERVER, "https://github.com/api/v3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme/shop",
        "ftp://github.com/acme",
        "https://github.com",
        "https://github.com/",
        "https://github.com/a/b/c",
        "https://github.com/a//b",
        "https://github.com/enterprises/a/b",
        "https://github.com/acme?x=1",
        "https://github.com/acme#x",
        "https://github.com/..",
        "https://github.com/a%2fb",
        "https://github.com/ac me",
        "https://github.com:port/acme",
        "https:///acme",
        "https://github.com/" + "a" * 3000,
    ],
)
def test_what_is_refused(text):
    with pytest.raises(ConfigurationError) as caught:
        parse_github_url(text)
    assert caught.value.reason == "github_url_invalid"
    assert caught.value.fix


def test_a_password_is_refused_and_not_repeated():
    with pytest.raises(ConfigurationError) as caught:
        parse_github_url("https://kim:hunter2@github.com/acme")
    assert "hunter2" not in caught.value.diagnostics()


@given(st.text(max_size=60))
def test_any_path_is_read_or_refused_and_stays_on_its_host(path):
    try:
        url = parse_github_url("https://ghes.example/" + path)
    except ConfigurationError:
        return
    assert url.host == "ghes.example"
    assert url.api_path.count("/") == (3 if url.scope is Scope.REPOSITORY else 2)


def test_which_repositories_certainly_are_in_the_scope():
    organisation = parse_github_url("https://github.com/acme")
    assert organisation.covers("ACME", "shop")
    assert not organisation.covers("acme", "")
    assert not organisation.covers("mallory", "shop")
    one = parse_github_url("https://github.com/acme/shop")
    assert one.covers("Acme", "Shop")
    assert not one.covers("acme", "other")
    assert not parse_github_url("https://github.com/enterprises/acme").covers("acme", "shop")
