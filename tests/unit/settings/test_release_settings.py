"""Settings of commits and tickets: what is refused, by name and without a word of what may be a secret."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings import load_settings

SOURCE = """
github:
- {name: acme, url: 'https://github.com/acme', token_file: /t, scale_sets: [{name: s, pool: default}]}
- {name: big, url: 'https://github.com/enterprises/big', token_file: /t, scale_sets: [{name: s, pool: default}]}
"""
TICKETS = "promotion: {tickets: {url: 'https://t.example/{id}', %s}}"


@pytest.fixture
def load(tmp_path):
    def run(text: str):
        file = tmp_path / "settings.yaml"
        file.write_text(text, encoding="utf-8")
        return load_settings(file).promotion

    return run


def test_nothing_is_asked_by_default(load):
    assert load("").commits is load("").tickets is None


def test_little_has_to_be_said(load):
    promotion = load(SOURCE + "promotion: {commits: {sources: [acme]}, tickets: {url: 'https://t.example/i/{id}'}}")
    assert (promotion.commits.branches, promotion.commits.pull_requests) == ((), True)
    assert promotion.tickets.fields.project == "fields.project.key"
    assert promotion.tickets.open_values == ("new", "indeterminate")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("commits: {sources: [other]}", "'other', which is no entry of github; entries: acme, big"),
        ("commits: {sources: [big]}", "'big', an enterprise"),
        ("commits: {sources: []}", "promotion.commits.sources"),
        ("commits: {sources: [acme, acme]}", "names a source twice"),
        ("commits: {sources: [acme], branches: ['*']}", "would take every branch"),
        ("commits: {sources: [acme], branches: ['a b']}", "promotion.commits.branches.0"),
        ("commits: {sources: [acme], max_age_seconds: 3600}", "promotion.commits.max_age_seconds"),
    ],
)
def test_commits_that_nobody_can_tell_of(load, text, said):
    with pytest.raises(ConfigurationError) as refused:
        load(f"{SOURCE}promotion: {{{text}}}")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://t.example/{id}",
        "https://t.example/issue",
        "https://t.example/{id}/{id}",
        "https://{id}.example/x",
        "https://user:hunter2@t.example/{id}",
        "https://t.example/#{id}",
        "ftp://t.example/{id}",
        "https://t.example:x/{id}",
    ],
)
def test_addresses_that_are_not_asked(load, url):
    with pytest.raises(ConfigurationError) as refused:
        load(f"promotion: {{tickets: {{url: '{url}'}}}}")
    assert "promotion.tickets.url" in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_tracker_on_this_machine_may_be_plain(load):
    assert load("promotion: {tickets: {url: 'http://127.0.0.1:8080/x?key={id}'}}").tickets.page is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("pattern: '('", "promotion.tickets.pattern"),
        ("fields: {status: 'a..b'}", "promotion.tickets.fields.status"),
        ("open_values: []", "promotion.tickets.open_values"),
        ("scheme: Digest", "promotion.tickets.scheme"),
        ("trailer: 'Release Ticket'", "promotion.tickets.trailer"),
        ("token: secret", "promotion.tickets.token"),
    ],
)
def test_settings_of_a_tracker_that_do_not_fit(load, text, field):
    with pytest.raises(ConfigurationError) as refused:
        load(TICKETS % text)
    assert field in str(refused.value)
