"""Keyed hashes: the same for who has the key, nothing for who has not."""

from __future__ import annotations

import hashlib
import hmac
import stat

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.audit.keyed import KeyedHash


def test_it_is_hmac_sha256_of_kind_and_value(tmp_path):
    path = tmp_path / "audit-values.key"
    keyed = KeyedHash.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = bytes.fromhex(path.read_text())
    assert len(secret) == 32
    wanted = hmac.new(secret, b"subject\0alice", hashlib.sha256).hexdigest()
    assert keyed.of("subject", "alice") == f"hmac-sha256:{wanted}"
    assert keyed.of("subject", b"alice") == keyed.of("subject", "alice")
    assert KeyedHash.open(path).of("subject", "alice") == keyed.of("subject", "alice")


def test_what_differs_has_another_hash(tmp_path):
    keyed = KeyedHash.open(tmp_path / "one")
    other = KeyedHash.open(tmp_path / "other")
    hashes = {
        keyed.of("subject", "alice"),
        keyed.of("subject", "bob"),
        keyed.of("host", "alice"),
        other.of("subject", "alice"),
        keyed.of("subject", "\ud800"),
    }
    assert len(hashes) == 5
    assert keyed.of("subject", "") == ""


@pytest.mark.parametrize("text", ["", "abcd", "zz" * 32, "a" * 63, "\u00e4"])
def test_a_damaged_key_is_told_and_not_repeated(tmp_path, text):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        KeyedHash.open(path)
    assert caught.value.reason == "keys_corrupt"
    assert len(text) < 4 or text not in caught.value.diagnostics()


def test_a_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "key"
    KeyedHash.open(path)
    path.chmod(0o604)
    with pytest.raises(ConfigurationError) as caught:
        KeyedHash.open(path)
    assert caught.value.reason == "keys_unsafe"
