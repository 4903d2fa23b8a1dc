"""People with keys, and what they sign: for tests of approvals, and for attacks on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.judging import Asked
from orchestrator.evidence.approvals.keys import PrivateKey, PublicKey, key_id
from orchestrator.evidence.approvals.people import People, Person, Right
from orchestrator.evidence.approvals.statements import (
    SECOND,
    Approval,
    Predicate,
    Review,
    Revocation,
    RuleException,
    moment,
    object_id,
    statement_bytes,
)
from orchestrator.model.job import Caller

START = 1_800_000_000 * SECOND
HOUR = 3600 * SECOND
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
COMMIT = "c" * 40
GITHUB = "https://token.example"
IDP = "https://idp.example"
DEPLOYER = Caller(GITHUB, "repo:acme/shop", {"repository_id": "42", "sha": COMMIT, "actor_id": "900"})
BUILT = {"caller": Caller(GITHUB, "builder").id, "caller_issuer": GITHUB, "repository_id": "42", "sha": COMMIT}

KEYS: dict[str, PrivateKey] = {
    name: ec.generate_private_key(ec.SECP256R1()) for name in ("alice", "carol", "dave", "mallory", "daemon")
} | {"bob": Ed25519PrivateKey.generate(), "alice-second": Ed25519PrivateKey.generate()}


def public(name: str) -> dict[str, PublicKey]:
    """A person's public key by its id."""
    key = KEYS[name].public_key()
    return {key_id(key): key}


def person(name: str, *kinds: str, keys: tuple[str, ...] = (), **more: Any) -> Person:
    """Somebody with a key of their name, who may sign these kinds for `prod`."""
    rights = (Right(kinds, ("prod",)),) if kinds else ()
    own = {key: value for one in (name, *keys) for key, value in public(one).items()}
    return Person(name, own, may=rights, **more)


ALICE = person("alice", "security", "break_glass", "override", "review", keys=("alice-second",))
BOB = person("bob", "security", "break_glass", identities=frozenset({(IDP, "bob@acme")}))
CAROL = person("carol", facts={"actor_id": frozenset({"901"})})
DAVE = person("dave", "review", "break_glass")
EVERYBODY = People((ALICE, BOB, CAROL, DAVE), "sha256:people")


def asked(**more: Any) -> Asked:
    """A job that deploys `DIGEST`, built from `COMMIT`, to `prod`."""
    return replace(Asked("dispatch.1.1", DEPLOYER, "prod", DIGEST, BUILT), **more)


def approval(**more: Any) -> Approval:
    """Of `DIGEST` for `prod`, for an hour from `START`."""
    given: dict[str, Any] = {
        "kind": "security", "environment": "prod", "artifact_digest": DIGEST, "issuer": "", "repository_id": "",
        "commit": "", "reason": "looked at it", "starts_at": moment(START), "expires_at": moment(START + HOUR),
    }  # fmt: skip
    return Approval(**given | more)


def exception(kind: str = "break_glass", **more: Any) -> RuleException:
    """Asked for by carol for `DIGEST` in `prod`, for an hour from `START`."""
    given: dict[str, Any] = {
        "kind": kind, "environment": "prod", "issuer": "", "repository_id": "", "job": "", "artifact_digest": DIGEST,
        "waives": ("scan_missing",), "requested_by": "carol", "reason": "the scanner is down", "ticket": "INC-1",
        "starts_at": moment(START), "expires_at": moment(START + HOUR), "max_uses": 1,
    }  # fmt: skip
    return RuleException(**given | more)


def signed(predicate: Predicate, *names: str) -> Envelope:
    """A statement with the signatures of these."""
    envelope = Envelope(statement_bytes(predicate), {})
    for name in names:
        envelope = envelope.signed_by(KEYS[name])
    return envelope


def id_of(predicate: Predicate) -> str:
    return object_id(statement_bytes(predicate))


def revocation(predicate: Predicate, at_ns: int = START) -> Revocation:
    return Revocation(object=id_of(predicate), reason="wrong", at=moment(at_ns))


def review(predicate: Predicate, at_ns: int = START) -> Review:
    return Review(object=id_of(predicate), verdict="justified", reason="fine", at=moment(at_ns))


def public_pem(name: str) -> str:
    """A person's public key, as an approvers' file holds it."""
    key = KEYS[name].public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(name: str) -> bytes:
    return KEYS[name].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
