"""Secrets that somebody else writes: read again when they change, refused in words that do not repeat them."""

from __future__ import annotations

import os

import pytest

from orchestrator.errors import TryAgainError
from orchestrator.identity.secret_file import MAX_SECRET_BYTES, SecretFile


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "token"
    found.write_text("ghp_first\n")
    found.chmod(0o600)
    return found


def test_a_secret_is_read_without_white_space_and_again_when_replaced(path, tmp_path):
    file = SecretFile(path, "the token")
    assert file.read() == file.read() == "ghp_first"
    replacement = tmp_path / "new"
    replacement.write_text("ghp_other")
    replacement.rename(path)
    assert file.read() == "ghp_other"


def test_the_links_of_a_mounted_secret_are_followed(tmp_path):
    for name, text in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(text)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "token").symlink_to("data/token")
    file = SecretFile(tmp_path / "token", "the token")
    assert file.read() == "first"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    assert file.read() == "second"


@pytest.mark.parametrize("content", [b"", b" \n", b"secret\xff", b"s" * (MAX_SECRET_BYTES + 1)])
def test_what_is_no_secret(path, content):
    file = SecretFile(path, "the token")
    file.read()
    path.write_bytes(content)
    with pytest.raises(TryAgainError) as caught:
        file.read()
    assert caught.value.reason == "secret_file_unusable"
    assert str(path) in str(caught.value)
    assert "secret\\xff" not in str(caught.value)
    path.write_text("good again")
    assert file.read() == "good again"


def test_what_is_not_there_or_no_file(path, tmp_path):
    with pytest.raises(TryAgainError):
        SecretFile(tmp_path / "nothing", "the token").read()
    with pytest.raises(TryAgainError):
        SecretFile(tmp_path, "the token").read()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TryAgainError):
        SecretFile(tmp_path / "pipe", "the token").read()


@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o440, False), (0o644, True)])
def test_who_else_can_read_it(path, mode, exposed):
    path.chmod(mode)
    assert bool(SecretFile(path, "the token").exposed_to()) is exposed
