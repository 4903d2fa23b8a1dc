"""`orchestrator keys`: what is shown, and that nothing is withdrawn unless somebody says so."""

from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.operations.keys import EXAMPLES, REVOKE_EXAMPLES, ROTATE_EXAMPLES
from orchestrator.server.keys.shapes import KeyListView, KeyRevokedView, KeysRotatedView

KID = "Kx3vJ0lqv8Jr1M0hQbYkT7m2c9w5tZsE4dFgUaLnPqo"
OTHER = "b" * 43


def key(kid: str, state: str) -> dict[str, str]:
    return {"kid": kid, "algorithm": "ES256", "state": state, "since": "2026-01-02T03:04:05.000000Z"}


@pytest.fixture
def desk(local_daemon):
    main = {"issuer": "", "url": "https://ci.example", "keys": [key(KID, "active"), key(OTHER, "active")]}
    local_daemon.issuers = [main, {"issuer": "prod", "url": "https://ci.example/issuers/prod", "keys": []}]
    return local_daemon


def posts(desk) -> list[str]:
    return [path for method, path, _ in desk.requests if method == "POST"]


def test_the_test_server_fits_the_schemas(cli, desk):
    KeyListView.model_validate(json.loads(cli("keys", "--json").stdout))
    KeysRotatedView.model_validate(json.loads(cli("keys", "rotate", "--json").stdout))
    KeyRevokedView.model_validate(json.loads(cli("keys", "revoke", KID, "--yes", "--json").stdout))


def test_the_table_has_whole_ids(cli, desk):
    lines = cli("keys").stdout.splitlines()
    assert lines[0].split() == ["ISSUER", "KEY", "ALGORITHM", "STATE", "SINCE"]
    assert lines[1].split()[:4] == ["https://ci.example", KID, "ES256", "active"]


def test_it_asks_and_no_means_no(cli, desk):
    for stdin in ("n\n", "\n", ""):
        done = cli("keys", "revoke", KID, stdin=stdin)
        assert (done.exit_code, "withdrawn" in done.stdout) == (1, False)
        assert "Relying parties accept tokens of this key until they fetch" in done.stderr
    assert posts(desk) == []


def test_yes_withdraws_and_says_whom_to_tell(cli, desk):
    done = cli("keys", "revoke", KID, stdin="y\n")
    assert done.exit_code == 0, done.stderr
    assert f"{KID} is withdrawn; https://ci.example signs with {OTHER} (ES256)" in done.stdout
    assert "until they fetch the key set of https://ci.example anew" in done.stderr
    again = cli("keys", "revoke", KID, "--yes")
    assert "was withdrawn before" in again.stdout
    assert "cannot be undone" not in again.stderr
    assert posts(desk) == [f"/v1/keys/{KID}/revoke"] * 2


def test_a_rotation_says_when_the_new_keys_sign(cli, desk):
    desk.issuers[0]["keys"].append(key("n" * 43, "next"))
    done = cli("keys", "rotate", "--issuer", "https://ci.example")
    assert done.exit_code == 0, done.stderr
    line = f"https://ci.example: {'n' * 43} (ES256) will sign from 2026-01-03T03:04:05.000000Z on"
    assert done.stdout.split() == line.split()
    again = cli("keys", "rotate")
    assert "was asked for before, and will sign" in again.stdout
    assert "https://ci.example/issuers/prod" in again.stdout


def test_keys_that_sign_at_once_are_asked_about(cli, desk):
    done = cli("keys", "rotate", "--at-once", stdin="n\n")
    assert done.exit_code == 1
    assert "until they fetch it anew" in done.stderr
    assert posts(desk) == []
    done = cli("keys", "rotate", "--at-once", "--yes", "--issuer", "prod")
    assert done.exit_code == 0, done.stderr
    assert "https://ci.example/issuers/prod: signs with" in done.stdout
    assert desk.requests[-1] == ("POST", "/v1/keys/rotate", {"at_once": "true", "issuer": "prod"})


def test_an_issuer_that_is_not_there(cli, desk):
    done = cli("keys", "rotate", "--issuer", "staging")
    assert done.exit_code == 1
    assert "key_issuer_unknown" in done.stderr


def test_an_id_may_begin_with_a_dash(cli, desk):
    kid = "-" + KID[1:]
    desk.issuers[0]["keys"].append(key(kid, "next"))
    assert cli("keys", "revoke", "--yes", "--", kid).exit_code == 0
    assert posts(desk) == [f"/v1/keys/{kid}/revoke"]


def test_a_key_that_is_not_there(cli, desk):
    for given in (("--yes",), ()):
        done = cli("keys", "revoke", "../../v1/jobs", *given)
        assert done.exit_code == 1
        assert "key_unknown" in done.stderr
        assert "cannot be undone" not in done.stderr, "there is nothing to be asked about"


def test_no_key_is_no_key(cli, desk):
    done = cli("keys", "revoke", "", "--yes")
    assert done.exit_code == 2
    assert "the key's id is empty" in done.stderr
    assert posts(desk) == []


@pytest.mark.parametrize("line", EXAMPLES + REVOKE_EXAMPLES + ROTATE_EXAMPLES)
def test_examples_are_accepted(desk, line):
    assert CliRunner().invoke(app, shlex.split(line)[1:], input="y\n").exit_code == 0
