"""`orchestrator notifications`: keys, and how endpoints are shown. What it does to a daemon is an acceptance test."""

from __future__ import annotations

import errno
import json
import os
import stat
from datetime import UTC, datetime

import yaml
from rich.console import Console

from orchestrator.cli.render.notifications import endpoint_failures, endpoint_table
from orchestrator.identity.webhook_keys import parse_key

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAILURE = {"reason": "endpoint_busy", "message": "it answered 503", "fix": "wait", "since": "2026-01-02T03:00:05Z"}
ACTIVE = {
    "name": "ops",
    "host": "https://hooks.example",
    "format": "webhook",
    "state": "active",
    "disabled_at": None,
    "waiting": 3,
    "oldest_at": "2026-01-02T03:04:00Z",
    "delivered": 17,
    "delivered_at": "2026-01-02T02:04:05Z",
    "dropped": 2,
    "failure": None,
}


def test_a_key_is_made_for_its_owner_alone_and_only_its_public_half_is_shown(cli, tmp_path):
    done = cli("notifications", "new-key", str(tmp_path / "ops.key"))
    assert done.exit_code == 0, done.stderr
    text = (tmp_path / "ops.key").read_text().strip()
    assert stat.S_IMODE((tmp_path / "ops.key").stat().st_mode) == 0o600
    assert done.stdout.strip() == f"the receiver verifies with {parse_key(text).public}"
    assert text not in done.stdout
    again = cli("notifications", "new-key", str(tmp_path / "ops.key"))
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert (tmp_path / "ops.key").read_text().strip() == text


def test_a_shared_secret_is_never_shown(cli, tmp_path):
    done = cli("notifications", "new-key", str(tmp_path / "ops.key"), "--kind", "shared", "--json")
    assert json.loads(done.stdout) == {"file": str(tmp_path / "ops.key"), "kind": "shared", "public_key": None}
    assert (tmp_path / "ops.key").read_text().startswith("whsec_")


def test_a_folder_that_is_not_there_is_said(cli, tmp_path):
    done = cli("notifications", "new-key", str(tmp_path / "none" / "ops.key"))
    assert done.exit_code == 1
    assert "cannot be written: No such file or directory" in done.stderr


def shown(*parts):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return capture.get().splitlines()


def test_endpoints_as_a_table():
    lines = shown(endpoint_table([ACTIVE], NOW))
    assert lines[0].split() == ["ENDPOINT", "HOST", "FORMAT", "STATE", "WAITING", "OLDEST", "TAKEN", "LAST", "DROPPED"]
    assert lines[1].split() == ["ops", "https://hooks.example", "webhook", "active", "3", "5s", "17", "1h", "2"]


def test_what_does_not_work_is_said_with_what_to_do():
    failing = ACTIVE | {"state": "failing", "failure": FAILURE}
    gone = ACTIVE | {"state": "disabled", "disabled_at": "2026-01-02T03:03:05Z"}
    assert shown(*endpoint_failures([ACTIVE, failing, gone], NOW)) == [
        "ops: it answered 503 [endpoint_busy], for 4m",
        "  fix: wait",
        "ops: it answered 410 1m ago; nothing is sent",
        "  fix: `orchestrator notifications retry ops` sends to it again",
    ]


def test_check_config_looks_at_keys_and_warns_of_what_gives_something_away(cli, tmp_path):
    key, config = tmp_path / "ops.key", tmp_path / "config.yaml"
    cli("notifications", "new-key", str(key))
    unsigned = {"name": "open", "url": "http://10.0.0.1/x", "format": "cdevents", "allow_private": True}
    signed = {"name": "ops", "url": "https://hooks.example/x", "key_files": [str(key)]}
    given = {"state_dir": str(tmp_path / "state"), "notifications": {"endpoints": [unsigned, signed]}}
    config.write_text(yaml.safe_dump(given))
    done = cli("check-config", "--config", str(config))
    assert done.exit_code == 0, done.stderr
    assert "warning: notifications.endpoints.0.key_files: nothing shows that a message is ours" in done.stderr
    assert "warning: notifications.endpoints.0.url: plain http beyond loopback" in done.stderr
    assert "notifications.endpoints.1" not in done.stderr
    key.chmod(0o644)
    readable = cli("check-config", "--config", str(config))
    assert "notifications.endpoints.1.key_files" in readable.stderr
    key.write_text("whsec_c2hvcnQ=")
    refused = cli("check-config", "--config", str(config))
    assert refused.exit_code == 1
    assert "a whsec_ secret has 24 to 64 bytes" in refused.stderr
    assert "whsec_c2hvcnQ=" not in refused.stderr


def test_a_key_that_could_not_be_written_is_in_nobodys_way(cli, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        done = cli("notifications", "new-key", str(tmp_path / "ops.key"))
    assert done.exit_code == 1
    assert "No space left" in done.stderr
    assert cli("notifications", "new-key", str(tmp_path / "ops.key")).exit_code == 0
