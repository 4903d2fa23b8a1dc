"""Where commands find the daemon, and what they refuse to send where."""

from __future__ import annotations

import json
import os

import pytest

from orchestrator.cli.exits import UnreachableError, UsageError
from orchestrator.cli.link.target import NoTokenError, Target, find_target, state_dir
from orchestrator.settings.tree import Settings


def test_the_state_folder_is_that_of_the_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("ORCHESTRATOR_STATE_DIR", raising=False)
    assert state_dir() == Settings().state_dir
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_dir() == Settings().state_dir == tmp_path / "orchestrator"
    config = tmp_path / "config.yaml"
    config.write_text(f"state_dir: {tmp_path}/from-file\n")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(config))
    assert state_dir() == tmp_path / "from-file"
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "from-variable"))
    assert state_dir() == tmp_path / "from-variable"


def test_the_local_daemon_is_found_with_its_token(state):
    (state / "daemon.json").write_text(json.dumps({"url": "http://127.0.0.1:4711"}))
    target = find_target(None, None)
    assert target == Target("http://127.0.0.1:4711", state / "caller-token", own=True)
    assert find_target("http://127.0.0.1:4711/", None) == target


def test_a_token_that_its_daemon_took_along_means_no_daemon(state, tmp_path):
    """It goes when the daemon stops, between two requests of a long command: that waits for the next daemon."""
    (state / "daemon.json").write_text(json.dumps({"url": "http://127.0.0.1:4711"}))
    target = find_target(None, None)
    with pytest.raises(UnreachableError, match="no daemon has left its caller token"):
        target.token()
    (state / "caller-token").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NoTokenError, match="cannot read"):
        target.token()
    with pytest.raises(NoTokenError, match="cannot read"):
        find_target(None, tmp_path / "mine").token()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": 1}', "\xff"])
def test_a_damaged_address_is_no_address(state, content):
    (state / "daemon.json").write_text(content)
    with pytest.raises(UnreachableError):
        find_target(None, None)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://h",
        "http://",
        "https://u:p@h",
        "https://h/?q",
        "https://h/#f",
        "http://h:99999",
        "http://[::1",
        "h:80",
        "",
    ],
)
def test_urls_that_do_not_fit(state, url):
    with pytest.raises(UsageError):
        find_target(url, None)


@pytest.mark.parametrize("url", ["http://ci.example:80", "http://10.0.0.8", "http://127.0.0.1.example"])
def test_a_token_does_not_cross_a_network_in_the_clear(state, tmp_path, url):
    token = tmp_path / "t"
    token.write_text("t")
    with pytest.raises(UsageError, match="show the caller token"):
        find_target(url, token)
    assert find_target(url, token, allow_http=True).url == url


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.8.9.1:1", "http://[::1]:1", "https://ci.example/base"]
)
def test_urls_that_do(state, url):
    assert find_target(url, None) == Target(url, None)


@pytest.mark.parametrize(
    "content", [b"", b"two words", b"line\nline", b"x" * 20_000, b"x" * 100_000, b"\x00", "é".encode()]
)
def test_a_file_without_a_token_is_refused_without_showing_it(tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(NoTokenError) as caught:
        Target("http://127.0.0.1:1", file).token()
    assert "two words" not in caught.value.diagnostics()


def test_the_token_is_read_anew_each_time(tmp_path):
    file = tmp_path / "token"
    target = Target("http://127.0.0.1:1", file)
    for value in ("first", "second"):
        file.write_text(value + "\n")
        assert target.token() == value


def test_a_command_leaves_the_environment_as_it_was(cli, state, tmp_path):
    before = dict(os.environ)
    done = cli("--state-dir", str(tmp_path / "elsewhere"), "jobs")
    assert str(tmp_path / "elsewhere") in done.stderr
    assert dict(os.environ) == before
