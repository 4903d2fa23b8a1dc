"""What others may add to an artifact and see of it, over the public API of the whole daemon."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.evidence.attestations.making import SIGNATURE_TYPE, signature_statement
from orchestrator.evidence.attestations.reading import read_attestation, read_statement
from orchestrator.evidence.envelope import pre_authentication_encoding, sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, statement_bytes
from orchestrator.evidence.signing_key import EvidenceKey, key_id

FORGE = "https://forge.example"
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
BUILD = """
echo "$0 $ORCHESTRATOR_JOB_ID" > app.whl
orchestrator-artifact app.whl
"""


@pytest.fixture
def release() -> EvidenceKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return EvidenceKey(key_id(private.public_key()), private)


@pytest.fixture
def stranger() -> EvidenceKey:
    private = ec.generate_private_key(ec.SECP256R1())
    return EvidenceKey(key_id(private.public_key()), private)


@pytest.fixture
def forge_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def forge(forge_key):
    """Headers of a repository's job at another CI."""

    def headers(repository: str, key: str = "") -> dict[str, str]:
        now = int(time.time())
        claims = {"iss": FORGE, "aud": "orchestrator", "sub": f"repo:{repository}", "iat": now, "exp": now + 300}
        token = jwt.encode(
            claims | {"repository": repository, "owner": "acme", "jti": secrets.token_hex(8)},
            forge_key,
            algorithm="ES256",
            headers={"kid": "forge"},
        )
        return {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})

    return headers


@pytest.fixture
async def world(open_world, release, forge_key, tmp_path):
    path = tmp_path / "release.pub"
    path.write_bytes(
        release.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    signers = {"release": {"key_files": [str(path)], "may": ["signature"]}}
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(forge_key.public_key()))
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [jwk | {"kid": "forge", "alg": "ES256", "use": "sig"}]}))
    caller = {"issuer": FORGE, "audience": "orchestrator", "jwks_file": str(jwks)}
    caller |= {"require": {"owner": "acme"}, "facts": {"repository": "repository"}}
    async with open_world(promotion={"signers": signers}, callers=[caller]) as made:
        yield made


def signature(key: EvidenceKey, digest: str = DIGEST) -> dict:
    return json.loads(sign_envelope(statement_bytes(signature_statement([("app", digest)])), IN_TOTO, key))


async def call(world, method: str, path: str, body=None, headers=None):
    headers = (headers or world.operator) | {"Content-Type": "application/json"}
    data = json.dumps(body).encode() if body is not None else None
    async with world.client.request(method, world.url + path, data=data, headers=headers) as answer:
        return answer.status, await answer.json()


async def upload(world, body, digest=DIGEST):
    return await call(world, "POST", f"/v1/artifacts/{digest}/attestations", body)


async def test_a_listed_signers_word_counts_once_and_a_strangers_does_not(world, release, stranger):
    assert (await call(world, "GET", f"/v1/artifacts/{DIGEST}"))[1]["reason"] == "artifact_unknown"
    status, kept = await upload(world, signature(stranger))
    assert (status, kept["standing"], kept["counts_for"], kept["reason"]) == (201, "loose", [], "key_unknown")
    assert (await world.rooms.promotion.artifact(DIGEST))["signed"] is False
    envelope = signature(release)
    status, kept = await upload(world, envelope)
    assert (status, kept["standing"], kept["signers"]) == (201, "vouched", ["release"])
    assert kept["counts_for"] == ["signature"]
    assert (await upload(world, envelope))[0] == 200
    status, artifact = await call(world, "GET", f"/v1/artifacts/{DIGEST}")
    assert artifact["facts"]["signed"] is True
    assert {one["id"]: one["counts_for"] for one in artifact["attestations"]}[kept["id"]] == ["signature"]
    assert len(artifact["attestations"]) == 2
    assert (await call(world, "GET", "/v1/artifacts"))[1] == {"artifacts": [DIGEST]}


async def test_a_signature_of_another_artifact_is_kept_and_says_why_it_does_not_count(world, release):
    status, kept = await upload(world, signature(release, OTHER))
    assert (status, kept["counts_for"], kept["reason"]) == (201, [], "digest_not_covered")
    assert (await world.rooms.promotion.artifact(DIGEST))["signed"] is False


NEITHER = (
    ({}, "envelope_malformed"),
    ({"payload": "!", "payloadType": "x", "signatures": [{"sig": "AA=="}]}, "envelope_malformed"),
    ({"mediaType": "application/vnd.dev.sigstore.bundle.v9+json"}, "bundle_version_unknown"),
    ({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}, "bundle_malformed"),
)


async def test_what_is_no_attestation_or_of_no_artifact_is_refused_and_leaves_nothing(world, release):
    for body, reason in NEITHER:
        status, problem = await upload(world, body)
        assert (status, problem["reason"]) == (422, reason)
    for name in ("sha256:..%2f..%2fx", "SHA256:" + "a" * 64, "sha256:" + "a" * 63):
        status, problem = await upload(world, signature(release), name)
        assert (status, problem["reason"]) in ((422, "digest_malformed"), (404, "not_found"))
        assert (await call(world, "GET", f"/v1/artifacts/{name}"))[0] == 404
    assert (await call(world, "GET", "/v1/artifacts"))[1] == {"artifacts": []}


async def test_an_attestation_is_fetched_as_a_bundle_that_still_verifies(world, release):
    _, kept = await upload(world, signature(release))
    status, bundle = await call(world, "GET", f"/v1/artifacts/{DIGEST}/attestations/{kept['id']}")
    assert (status, bundle["mediaType"]) == (200, "application/vnd.dev.sigstore.bundle.v0.3+json")
    read = read_attestation(json.dumps(bundle))
    assert read.id == kept["id"]
    assert read_statement(read).predicate_type == SIGNATURE_TYPE
    signed = pre_authentication_encoding(read.payload_type, read.payload)
    release.public.verify(read.signatures[0].value, signed, ec.ECDSA(hashes.SHA256()))
    hint = base64.b64decode(bundle["verificationMaterial"]["publicKey"]["hint"]).hex()
    der = release.public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert hint == hashlib.sha256(der).hexdigest()
    assert (await call(world, "GET", f"/v1/artifacts/{DIGEST}/attestations/{OTHER}"))[0] == 404
    assert (await call(world, "GET", f"/v1/artifacts/{OTHER}/attestations/{kept['id']}"))[0] == 404


@pytest.mark.sandbox
async def test_another_callers_artifact_answers_as_one_that_is_not_there(world, forge):
    status, job = await call(world, "POST", "/v1/jobs", {"name": "b", "script": BUILD}, forge("acme/app", "key-1"))
    assert status == 202
    await world.finished(job["id"])
    view = json.loads(await world.get(f"/v1/jobs/{job['id']}"))
    digest = view["artifacts"][0]["digest"]
    (signed,) = view["attestations"]
    assert signed["predicate_type"] == SIGNATURE_TYPE
    for caller, seen, listed in (("acme/app", 200, 403), ("acme/other", 404, 403), ("", 200, 200)):
        for path, expected in (
            (f"/v1/artifacts/{digest}", seen),
            (f"/v1/artifacts/{digest}/attestations/{signed['attestation']}", seen),
            ("/v1/artifacts", listed),
        ):
            status, answer = await call(world, "GET", path, headers=forge(caller) if caller else None)
            assert status == expected, (caller, path, answer)
    status, problem = await call(world, "GET", f"/v1/jobs/{job['id']}/summary")
    assert (status, problem["reason"]) == (404, "summary_missing")
