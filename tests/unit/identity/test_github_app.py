"""App JWTs: exactly the claims that GitHub documents, a key that may be replaced, and no word of it in errors."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orchestrator.errors import TryAgainError
from orchestrator.identity.github_app import GitHubApp

NOW = 1_800_000_000


def pem(key, form=serialization.PrivateFormat.TraditionalOpenSSL, password=None):
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, lock)


@pytest.fixture(scope="module")
def keys():
    return [rsa.generate_private_key(65537, 2048) for _ in range(2)]


@pytest.fixture
def path(tmp_path, keys):
    found = tmp_path / "app.pem"
    found.write_bytes(pem(keys[0]))
    return found


@pytest.mark.parametrize("client_id", [4242, "4242", "Iv23liExample"])
def test_claims(path, keys, client_id):
    token = GitHubApp(client_id, path, now=lambda: NOW + 0.9).sign()
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT"}
    claims = jwt.decode(
        token, keys[0].public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert claims == {"iss": str(client_id), "iat": NOW - 60, "exp": NOW + 480}


def test_a_replaced_key_is_used_at_once(path, keys, tmp_path):
    app = GitHubApp("Iv23", path, now=lambda: NOW)
    app.sign()
    (tmp_path / "new").write_bytes(pem(keys[1], serialization.PrivateFormat.PKCS8))
    (tmp_path / "new").rename(path)
    options = {"verify_exp": False, "verify_iat": False}
    assert jwt.decode(app.sign(), keys[1].public_key(), algorithms=["RS256"], options=options)


def test_keys_that_cannot_be_used(path, keys):
    app = GitHubApp("Iv23", path, now=lambda: NOW)
    app.sign()
    weak = rsa.generate_private_key(65537, 1024)
    other = ec.generate_private_key(ec.SECP256R1())
    locked = pem(keys[0], password=b"x")
    public = (
        keys[0].public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    cut = pem(keys[0])[:-200]
    for content in (pem(weak), pem(other), locked, public, cut, b"hello"):
        path.write_bytes(content)
        with pytest.raises(TryAgainError) as caught:
            app.sign()
        assert caught.value.reason == "github_app_key_unusable"
        told = caught.value.diagnostics()
        assert not any(line.decode() in told for line in content.splitlines() if len(line) > 4)
        assert caught.value.__cause__ is None
    path.write_bytes(pem(keys[0]))
    assert app.sign()


def test_a_key_that_others_can_read_is_told(path):
    path.chmod(0o644)
    assert "every user" in GitHubApp("Iv23", path).exposed_to()
    path.chmod(0o600)
    assert GitHubApp("Iv23", path).exposed_to() == ""
