"""Settings of the live page: who could be let in by them, and what is refused before anybody is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.cli.insecure.page import page_warnings
from orchestrator.daemon.operations.page import open_door
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.server.page.door import Door
from orchestrator.settings import Settings

PROVIDER = {"name": "corp", "issuer": "https://idp.example", "client_id": "page", "viewer": [{"groups": "ci"}]}
HERE = "http://127.0.0.1:8455"


def door(url: str = HERE, server: dict[str, Any] | None = None, **page: Any) -> Door:
    found = open_door(Settings(server=server or {}, page=page), url, AuditNotes(None))
    assert found is not None
    return found


def looks(made: Door) -> tuple[bool, bool]:
    return made._anonymous.looks, made._anonymous.reads_logs


def test_by_itself_only_whoever_is_here_may_look() -> None:
    assert looks(door()) == (True, True)
    assert looks(door(server={"host": "::1"})) == (True, True)
    assert looks(door(server={"host": "0.0.0.0"})) == (False, False)
    assert looks(door("https://ci.example", server={"public_url": "https://ci.example"})) == (False, False)
    assert looks(door(anonymous="always", server={"host": "0.0.0.0"})) == (True, False)
    assert looks(door(anonymous="never")) == (False, False)
    assert open_door(Settings(page={"enabled": False}), HERE, AuditNotes(None)) is None


def test_the_cookie_goes_to_this_daemon_only() -> None:
    assert door().cookie == "orchestrator-8455"
    assert door("https://ci.example").cookie == "__Host-orchestrator"
    names = door("https://ci.example:8443", hosts=["ci.internal:8080"]).names
    assert [names.ours(host) for host in ("ci.example:8443", "ci.internal:8080", "ci.example", "localhost:1")] == [
        True,
        True,
        False,
        True,
    ]


def test_a_provider_sends_people_back_to_our_url() -> None:
    made = door("https://ci.example", providers=[PROVIDER])
    config = made.ways["corp"].provider.config
    assert config.redirect_uri == "https://ci.example/signin/corp/callback"
    assert config.rules.viewer[0]["groups"].fullmatch("ci")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"viewer": []}, "lets nobody in"),
        ({"viewer": [{}]}, "at least 1"),
        ({"viewer": [{"groups": "("}]}, "not a regular expression"),
        ({"issuer": "http://idp.example"}, "must be https://"),
        ({"issuer": "https://idp.example?x=1"}, "must be https://"),
        ({"scopes": ["profile"]}, "openid"),
        ({"scopes": ["openid email"]}, "openid"),
        ({"algorithms": []}, "at least 1"),
        ({"name": "Corp/.."}, "pattern"),
        ({"secret": "x"}, "not permitted"),
    ],
)
def test_a_provider_that_does_not_fit_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(page={"providers": [PROVIDER | wrong]})
    assert message in str(caught.value)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="given twice: corp"):
        Settings(page={"providers": [PROVIDER, PROVIDER]})
    with pytest.raises(ValidationError, match="must not cross a network"):
        Settings(page={"providers": [PROVIDER]}, server={"public_url": "http://ci.example"})
    Settings(page={"providers": [PROVIDER]}, server={"public_url": "http://localhost:8455"})


def test_what_lets_everybody_in_is_named() -> None:
    assert list(page_warnings(Settings())) == []
    wide = PROVIDER | {"operator": [{"sub": ".*"}]}
    lines = list(page_warnings(Settings(page={"anonymous": "always", "providers": [PROVIDER, wide | {"name": "b"}]})))
    assert [line.partition(":")[0] for line in lines] == ["page.anonymous", "page.providers.1.operator"]
