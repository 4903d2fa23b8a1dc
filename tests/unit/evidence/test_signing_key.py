"""The evidence key's file: who may read it and what damage does."""

from __future__ import annotations

import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.signing_key import open_evidence_key


def test_made_once_for_its_owner_only_and_found_again(tmp_path):
    folder = tmp_path / "state" / "keys"
    previous = os.umask(0)
    try:
        key = open_evidence_key(folder)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "evidence.pem").stat().st_mode) == 0o600
    again = open_evidence_key(folder)
    assert again.id == key.id
    assert again.public_pem == key.public_pem
    assert "private" not in repr(key)
    assert "PRIVATE" not in key.public_pem


@pytest.mark.parametrize("target", ["", "evidence.pem"])
@pytest.mark.parametrize("bits", [0o040, 0o004, 0o001])
def test_looser_modes_are_refused(tmp_path, target, bits):
    open_evidence_key(tmp_path / "keys")
    path = tmp_path / "keys" / target
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bits)
    with pytest.raises(ConfigurationError) as caught:
        open_evidence_key(tmp_path / "keys")
    assert caught.value.reason == "keys_unsafe"


def pem(private) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("data", [b"", b"nonsense", pem(ec.generate_private_key(ec.SECP384R1()))[:-60]])
def test_damage_is_a_clear_error(tmp_path, data):
    open_evidence_key(tmp_path / "keys")
    (tmp_path / "keys" / "evidence.pem").write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        open_evidence_key(tmp_path / "keys")
    assert caught.value.reason == "keys_corrupt"


def test_another_curve_is_refused(tmp_path):
    open_evidence_key(tmp_path / "keys")
    (tmp_path / "keys" / "evidence.pem").write_bytes(pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ConfigurationError, match="P-256"):
        open_evidence_key(tmp_path / "keys")


def test_a_link_is_refused(tmp_path):
    open_evidence_key(tmp_path / "keys")
    path = tmp_path / "keys" / "evidence.pem"
    path.rename(tmp_path / "elsewhere.pem")
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(TryAgainError) as caught:
        open_evidence_key(tmp_path / "keys")
    assert caught.value.reason == "keys_unavailable"
