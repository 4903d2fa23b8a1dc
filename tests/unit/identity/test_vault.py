"""Credentials that are kept: whole or not at all, for this user alone, through any restart."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import pytest

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.identity.vault import Kept, Vault
from orchestrator.model.job import JobId

ONE = Kept("jti-1", JobId("dispatch.a.1"), "acme", 100, 200, "ghs_secret")


def test_what_was_put_is_there_after_a_restart(tmp_path):
    vault = Vault.open(tmp_path / "vault")
    two = replace(ONE, jti="jti-2", job_id=JobId("dispatch.b.1"))
    for one in (ONE, two):
        vault.put(one)
    again = Vault.open(tmp_path / "vault")
    assert again.all() == [ONE, two]
    assert again.of_job(ONE.job_id) == [ONE]
    assert again.get("jti-2") == two
    again.remove("jti-1")
    again.remove("jti-1")
    assert again.get("jti-1") is None
    assert Vault.open(tmp_path / "vault").all() == [two]


def test_nobody_else_reads_it(tmp_path):
    Vault.open(tmp_path / "vault").put(ONE)
    folder, file = tmp_path / "vault", tmp_path / "vault" / "jti-1.json"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, file)] == [0o700, 0o600]
    assert "ghs_secret" not in repr(ONE)
    file.chmod(0o644)
    with pytest.raises(ConfigurationError) as caught:
        Vault.open(folder)
    assert caught.value.reason == "keys_unsafe"
    assert "ghs_secret" not in str(caught.value)


def test_a_crash_in_the_middle_leaves_the_old_or_nothing(tmp_path):
    Vault.open(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "jti-1.json.tmp").write_text('{"jti": "jt')
    assert Vault.open(tmp_path).all() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"jti": "other", "job_id": "j", "maker": "a", "due_at": 1, "expires_at": 2, "secret": "s"}),
        json.dumps({"jti": "jti-1", "job_id": 7, "maker": "a", "due_at": 1, "expires_at": 2, "secret": "s"}),
        json.dumps({"jti": "jti-1", "job_id": "j", "maker": "a", "due_at": "1", "expires_at": 2, "secret": "s"}),
        json.dumps({"jti": "jti-1", "job_id": "j", "maker": "a", "due_at": 1, "expires_at": 2, "secret": "s", "x": 1}),
    ],
)
def test_a_damaged_file_keeps_no_other_from_being_read(tmp_path, content):
    vault = Vault.open(tmp_path / "vault")
    vault.put(replace(ONE, jti="jti-2"))
    vault.put(ONE)
    (tmp_path / "vault" / "jti-1.json").write_text(content)
    assert [one.jti for one in Vault.open(tmp_path / "vault").all()] == ["jti-2"]
    assert (tmp_path / "vault" / "jti-1.damaged").exists()


def test_a_disk_that_takes_nothing_keeps_nothing(tmp_path, monkeypatch):
    vault = Vault.open(tmp_path / "vault")

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.private_file.replace_private_file", full)
    with pytest.raises(TryAgainError):
        vault.put(ONE)
    assert vault.all() == []
