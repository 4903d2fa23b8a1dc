"""Keys of signers in every kind that is taken, and those that are not."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.attestations.keys import Signed, hint_of, read_keys

DATA = b"what was signed"
DIGEST = hashlib.sha256(DATA).digest()
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def pem(key) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


SIGNATURES = {
    "P-256": (P256, P256.sign(DATA, ec.ECDSA(hashes.SHA256())), True),
    "P-384": (P384, P384.sign(DATA, ec.ECDSA(hashes.SHA384())), False),
    "Ed25519": (ED, ED.sign(DATA), False),
    "RSA PKCS1": (RSA, RSA.sign(DATA, padding.PKCS1v15(), hashes.SHA256()), True),
    "RSA PSS": (RSA, RSA.sign(DATA, PSS, hashes.SHA256()), True),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_signature_holds_over_what_was_signed_and_nothing_else(name):
    private, signature, by_digest = SIGNATURES[name]
    (key,) = read_keys(pem(private), "file")
    assert Signed(DATA).holds(key, signature)
    assert Signed.by_digest(DIGEST).holds(key, signature) is by_digest
    assert not Signed(DATA + b".").holds(key, signature)
    assert not Signed.by_digest(hashlib.sha256(b"else").digest()).holds(key, signature)
    for junk in (b"", b"\0", signature[:-1], signature + b"\0", b"x" * 2000):
        assert not Signed(DATA).holds(key, junk)
        assert not Signed.by_digest(DIGEST).holds(key, junk)


def test_no_signature_is_another_keys():
    keys = {name: private.public_key() for name, (private, _, _) in SIGNATURES.items()}
    for name, (private, signature, _) in SIGNATURES.items():
        others = [key for key in keys.values() if key != private.public_key()]
        assert not any(Signed(DATA).holds(key, signature) for key in others), name


def test_several_keys_in_one_file():
    assert len(read_keys("# today's\n" + pem(P256) + "\n# the one before\n" + pem(ED), "file")) == 2


def test_the_hint_is_the_hash_of_the_key():
    (key,) = read_keys(pem(P256), "file")
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert base64.b64decode(hint_of(key)) == hashlib.sha256(der).digest()


def private_pem() -> str:
    return P256.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        pem(P256).replace("MFk", "AAA"),
        pem(ec.generate_private_key(ec.SECP521R1())),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(dsa.generate_private_key(2048)),
        pem(P256) * 17,
    ],
    ids=["empty", "text", "damaged", "P-521", "RSA 1024", "DSA", "seventeen"],
)
def test_what_is_no_key_of_a_signer(text):
    with pytest.raises(ConfigurationError) as caught:
        read_keys(text, "promotion.signers.x.key_files.0: /keys/x.pub")
    assert caught.value.reason == "signer_key_unusable"
    assert str(caught.value).startswith("promotion.signers.x.key_files.0: /keys/x.pub ")
    assert caught.value.fix


def test_a_private_key_is_refused_and_not_shown():
    text = private_pem()
    with pytest.raises(ConfigurationError) as caught:
        read_keys(pem(P256) + text, "file")
    assert "PRIVATE KEY" in str(caught.value)
    assert not any(line in caught.value.diagnostics() for line in text.splitlines()[1:-1])


@pytest.mark.parametrize("private", [P384, ED], ids=["P-384", "Ed25519"])
def test_nothing_signed_is_not_everything_signed(private):
    """Of the bytes only a digest is known: what such a key has signed is not the empty text either."""
    signature = private.sign(b"", ec.ECDSA(hashes.SHA384())) if private is P384 else private.sign(b"")
    (key,) = read_keys(pem(private), "file")
    assert Signed(b"").holds(key, signature)
    assert not Signed.by_digest(DIGEST).holds(key, signature)
