"""Sessions over a restart: what goes on, for how long, and what is on disk of them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.errors import TryAgainError
from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.session_file import SessionFile
from orchestrator.server.page.sessions import MAX_SESSIONS, SessionLife, Sessions

SEAL = "s" * 43
ADA = Visitor(Role.OPERATOR, "Ada", "https://idp.example", "u-1")
BOUND = {"link": "here", "corp": "as it is"}


class Clock:
    """The machine's clock, and one that starts anew with each daemon."""

    def __init__(self) -> None:
        self.wall = 1.7e9

    def started(self, bound: dict[str, str] | None = None) -> Sessions:
        begun = self.wall
        steady = lambda: self.wall - begun  # noqa: E731 -- a clock
        return Sessions(SessionLife(600, 3600, 60), steady, lambda: self.wall, BOUND if bound is None else bound)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def restarted(before: Sessions, clock: Clock, folder: Path, bound: dict[str, str] | None = None) -> Sessions:
    await SessionFile(folder / "sessions").write(before.kept())
    after = clock.started(bound)
    after.restore(SessionFile(folder / "sessions").read())
    return after


async def test_who_was_signed_in_still_is_by_the_same_cookie_and_seal(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    value = before.begin(ADA, SEAL, "corp")
    clock.wall += 300
    after = await restarted(before, clock, tmp_path)
    found = after.visitor(value, SEAL)
    assert found is not None
    assert (found.role, found.name, found.caller) == (Role.OPERATOR, "Ada", ADA.caller)
    assert after.alive(found.session)
    assert after.visitor(value, "t" * 43) is None, "the cookie alone is half a session, as before"
    assert after.visitor("another", SEAL) is None
    assert after.left_seconds(found.session) == 3300


async def test_a_session_gets_no_longer_by_a_restart(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    value = before.begin(ADA, SEAL)
    clock.wall += 599
    after = await restarted(before, clock, tmp_path)
    clock.wall += 1
    assert after.visitor(value, SEAL) is None, "nobody used it for its idle time, part of it before the restart"

    one = clock.started()
    value = one.begin(ADA, SEAL)
    for _ in range(7):
        clock.wall += 500
        one = await restarted(one, clock, tmp_path)
        assert one.visitor(value, SEAL) is not None
    clock.wall += 100
    assert one.visitor(value, SEAL) is None
    assert (await restarted(one, clock, tmp_path)).visitor(value, SEAL) is None


async def test_what_ended_while_no_daemon_ran_is_over(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    value = before.begin(ADA, SEAL)
    await SessionFile(tmp_path / "sessions").write(before.kept())
    clock.wall += 600
    after = clock.started()
    assert after.restore(SessionFile(tmp_path / "sessions").read()) == 0
    assert after.visitor(value, SEAL) is None


async def test_a_session_of_later_than_now_is_none(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    value = before.begin(ADA, SEAL)
    kept = before.kept()
    clock.wall -= 301
    after = clock.started()
    assert after.restore(kept) == 0
    clock.wall += 1.5  # a clock that was put right by a little
    after = clock.started()
    assert after.restore(kept) == 1
    assert after.visitor(value, SEAL) is not None


@pytest.mark.parametrize("bound", [{"link": "here"}, BOUND | {"corp": "another table of operators"}, {}])
async def test_who_would_get_another_role_now_signs_in_again(
    clock: Clock, tmp_path: Path, bound: dict[str, str]
) -> None:
    before = clock.started()
    value, other = before.begin(ADA, SEAL, "corp"), before.begin(ADA, SEAL, "link")
    after = await restarted(before, clock, tmp_path, bound)
    assert after.visitor(value, SEAL) is None
    assert (after.visitor(other, SEAL) is not None) == ("link" in bound)


async def test_what_was_signed_out_does_not_come_back(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    gone, stays = before.begin(ADA, SEAL), before.begin(ADA, SEAL)
    await SessionFile(tmp_path / "sessions").write(before.kept())
    before.end(gone)
    after = await restarted(before, clock, tmp_path)
    assert (after.visitor(gone, SEAL) is None, after.visitor(stays, SEAL) is None) == (True, False)


async def test_the_file_opens_nothing_and_is_for_this_user_alone(clock: Clock, tmp_path: Path) -> None:
    before = clock.started()
    value = before.begin(ADA, SEAL)
    await SessionFile(tmp_path / "sessions").write(before.kept())
    text = (tmp_path / "sessions").read_text()
    assert value not in text
    assert SEAL not in text
    assert stat.S_IMODE((tmp_path / "sessions").stat().st_mode) == 0o600


def _damaged(document: dict[str, Any], **changes: Any) -> bytes:
    return msgspec.json.encode(document | changes)


async def test_what_cannot_be_trusted_holds_no_session_and_stops_nobody(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = clock.started()
    before.begin(ADA, SEAL)
    path = tmp_path / "sessions"
    assert SessionFile(path).read() == []
    await SessionFile(path).write(before.kept())
    good = json.loads(path.read_text())
    one = good["sessions"][0]
    for data in (
        b"",
        b"{",
        _damaged(good, version=2),
        _damaged(good, more=1),
        _damaged(good, sessions=[one | {"role": "admin"}]),
        _damaged(good, sessions=[one | {"cookie": "x"}]),
        _damaged(good, sessions=[one | {"began": "now"}]),
    ):
        path.write_bytes(data)
        assert SessionFile(path).read() == [], data
    assert caplog.text.count("people sign in again") == 7
    path.write_bytes(msgspec.json.encode(good))
    assert len(SessionFile(path).read()) == 1
    path.chmod(0o644)
    assert SessionFile(path).read() == [], "others may have read it"
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(msgspec.json.encode(good))
    path.symlink_to(tmp_path / "elsewhere")
    assert SessionFile(path).read() == []


async def test_what_cannot_be_kept_is_forgotten(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: what is on it may have been signed out meanwhile."""
    file, before = SessionFile(tmp_path / "sessions"), clock.started()
    value, _ = before.begin(ADA, SEAL), before.begin(ADA, SEAL)
    await file.write(before.kept())
    (tmp_path / "sessions.tmp").mkdir()  # so that no new one can be written
    before.end(value)
    await file.write(before.kept())
    assert not (tmp_path / "sessions").exists()
    assert "they end with the daemon" in caplog.text

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(TryAgainError) as refused:
        await file.write([])
    assert refused.value.reason == "keys_unavailable"


async def test_an_older_word_does_not_follow_a_newer_one(clock: Clock, tmp_path: Path) -> None:
    file, before = SessionFile(tmp_path / "sessions"), clock.started()
    before.begin(ADA, SEAL)
    await file.write(before.kept())
    await file.write([])
    assert list(tmp_path.iterdir()) == [], "no session, no file"
    file._write(1, msgspec.json.encode({"version": 1, "sessions": before.kept()}))
    assert SessionFile(tmp_path / "sessions").read() == []


async def test_as_many_as_there_may_be_fit(clock: Clock, tmp_path: Path) -> None:
    one = Visitor(Role.VIEWER, "\U0001f680" * 100, "https://idp.example", "s" * 255)
    before, file = clock.started(), SessionFile(tmp_path / "sessions")
    before.begin(one, SEAL, "corp")
    (kept,) = before.kept()
    await file.write([msgspec.structs.replace(kept, cookie=f"{number:064x}") for number in range(MAX_SESSIONS + 1)])
    assert clock.started().restore(file.read()) == MAX_SESSIONS
