"""Settings of the live page: who could be let in by them, and what is refused before anybody is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.cli.insecure.page import page_warnings
from orchestrator.daemon.backup.places import places, sources
from orchestrator.daemon.operations.page import SESSIONS, open_door
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.server.page.door import Door
from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.sessions import local_operator
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


def signed_in(state: Any, **page: Any) -> int:
    """How many sessions go on after another start."""
    found = open_door(Settings(state_dir=state, page=page), HERE, AuditNotes(None))
    assert found is not None
    return len(found.sessions.kept())


async def test_sessions_go_on_where_their_provider_is_the_same(tmp_path: Path) -> None:
    async def begin(**page: Any) -> None:
        made = open_door(Settings(state_dir=tmp_path, page=page), HERE, AuditNotes(None))
        assert made is not None
        made.sessions.begin(Visitor(Role.VIEWER, "Ada", PROVIDER["issuer"], "u-1"), "s" * 43, "corp")
        made.sessions.begin(local_operator(HERE, "operator"), "s" * 43)
        await made.close()

    await begin(providers=[PROVIDER])
    assert signed_in(tmp_path, providers=[PROVIDER]) == 2
    assert signed_in(tmp_path, providers=[PROVIDER | {"label": "Another word on the button"}]) == 2
    other = open_door(Settings(state_dir=tmp_path, page={}), "http://127.0.0.1:8456", AuditNotes(None))
    assert other is not None
    assert other.sessions.kept() == [], "a copy of the state folder is another daemon"
    assert signed_in(tmp_path) == 0, "what did not go on once is over"
    for change in ({"viewer": [{"groups": "ops"}]}, {"operator": [{"groups": "ci"}]}, {"client_id": "other"}):
        await begin(providers=[PROVIDER])
        assert signed_in(tmp_path, providers=[PROVIDER | change]) == 1, change
        assert signed_in(tmp_path, providers=[PROVIDER]) == 1, "nor is it back with what was before"
        (tmp_path / SESSIONS).unlink()
    await begin(providers=[PROVIDER])
    assert signed_in(tmp_path) == 1
    assert signed_in(tmp_path, session={"survive_restart": False}) == 0
    assert signed_in(tmp_path, providers=[PROVIDER]) == 0, "they are gone for good"


def test_no_backup_holds_sessions(tmp_path: Path) -> None:
    for name in (SESSIONS, "kept"):
        (tmp_path / name).write_text("{}")
    assert [one.path.name for one in sources(places(Settings(state_dir=tmp_path)), logs=True)] == ["kept"]
