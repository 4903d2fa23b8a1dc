"""Job credentials: the same after a restart, different for each runner and each key, private on disk."""

from __future__ import annotations

import re
import stat

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.identity.job_credential import JobCredentials


def test_a_restarted_daemon_makes_the_same_credentials(tmp_path):
    folder = tmp_path / "keys"
    first, again = JobCredentials.open(folder), JobCredentials.open(folder)
    assert first.credential("uid-1") == again.credential("uid-1")
    assert again.matches("uid-1", first.credential("uid-1"))
    assert stat.S_IMODE((folder / "job-credential.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_each_runner_and_each_key_has_its_own(tmp_path):
    one, other = JobCredentials.open(tmp_path / "a"), JobCredentials.open(tmp_path / "b")
    seen = {one.credential("u1"), one.credential("u2"), other.credential("u1"), other.credential("u2")}
    assert len(seen) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", credential) for credential in seen)
    assert not one.matches("u1", other.credential("u1"))
    assert not one.matches("u1", one.credential("u2"))
    for nonsense in ("", "x", "ü" * 43, one.credential("u1") + "A", one.credential("u1")[:-1], "\ud800"):
        assert not one.matches("u1", nonsense)


def test_a_known_answer():
    """RFC 2104 with the documented text: a change here would cut every running job's egress at an upgrade."""
    credentials = JobCredentials(bytes(range(32)))
    assert credentials.credential("3f0e") == "ofJMOnrtR9xjuSvnypCkQYNxTreAYQB5UYHKK93vmFk"


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"00" * 33, b"\xff\xfe"])
def test_a_damaged_key_is_not_used(tmp_path, content):
    folder = tmp_path / "keys"
    JobCredentials.open(folder)
    (folder / "job-credential.key").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        JobCredentials.open(folder)
    assert caught.value.reason == "keys_corrupt"
    assert "egress" in caught.value.fix


def test_a_key_that_others_can_read_or_that_is_a_link_is_not_used(tmp_path):
    folder = tmp_path / "keys"
    JobCredentials.open(folder)
    path = folder / "job-credential.key"
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0640"):
        JobCredentials.open(folder)
    elsewhere = tmp_path / "elsewhere"
    path.chmod(0o600)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(Exception) as caught:
        JobCredentials.open(folder)
    assert caught.value.reason in ("keys_unavailable", "keys_unsafe")
