"""T9, T10: whose word counts at the door, and that nobody deploys as somebody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from site_under_attack import CACHE, STAGING

pytestmark = [pytest.mark.attack, pytest.mark.sandbox]


def unsigned(claims: dict) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])


def confused(platform) -> str:
    """Signed with the public key, by an algorithm that takes it for a secret."""
    header, claims = ({"alg": "HS256", "typ": "JWT", "kid": platform.kid}, platform.claims())
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    signature = hmac.new(platform.public_pem(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


async def test_forged_dispatches_start_nothing(site, platform, failed):
    now = int(time.time())
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = platform.token()
    header, _, signature = good.split(".")
    other = jwt.utils.base64url_encode(json.dumps(platform.claims("mallory/app")).encode()).decode()
    forged = {
        "no token": ("", "token_missing"),
        "not a token": ("abcd", "token_malformed"),
        "no signature": (unsigned(platform.claims()), None),
        "the public key as a secret": (confused(platform), None),
        "another key under the same id": (platform.sign(platform.claims(), key=stranger), "signature_invalid"),
        "claims changed after signing": (".".join([header, other, signature]), "signature_invalid"),
        "for somebody else": (platform.token(aud="https://elsewhere.example"), "audience_mismatch"),
        "an unknown issuer": (platform.token(iss="https://evil.example"), "issuer_unknown"),
        "our own issuer": (platform.token(iss=site.installation.url), None),
        "a subject that is not listed": (platform.token(sub="user:mallory"), "claim_mismatch"),
        "expired": (platform.token(iat=now - 900, nbf=now - 900, exp=now - 600), "token_expired"),
        "from the future": (platform.token(iat=now + 3600, nbf=now + 3600, exp=now + 7200), "token_not_yet_valid"),
        "without an end": (platform.sign({k: v for k, v in platform.claims().items() if k != "exp"}), None),
    }
    for name, (token, reason) in forged.items():
        answer = await site.dispatch_as(token, f"forged {name}")
        assert answer.status == 401, (name, answer)
        assert reason in (None, answer.body["reason"]), (name, answer.body)
    assert (await site.installation.call("GET", "/v1/jobs")).body["jobs"] == []
    failed(
        "T9",
        f"dispatch with {len(forged)} kinds of forged tokens",
        stopped_by="signature, issuer, audience, times and required claims, each checked",
        seen_by="401 with the reason; no job, no runner",
    )


async def test_a_replayed_dispatch_starts_nothing(site, platform, failed):
    token = platform.token()
    first = await site.dispatch_as(token, "deploy-1")
    assert first.status == 202, first
    again = await site.dispatch_as(token, "deploy-1")
    assert (again.status, again.body["id"]) == (200, first.body["id"])
    other = await site.dispatch_as(token, "deploy-2")
    assert (other.status, other.body["reason"]) == (401, "token_replayed")
    await site.installation.finished(first.body["id"])
    late = await site.dispatch_as(token, "deploy-3")
    assert (late.status, late.body["reason"]) == (401, "token_replayed")
    assert site.witness.words(first.body["id"]) == ["started"], "it ran once"
    failed(
        "T9",
        "send a captured dispatch again, under the same key and under another",
        stopped_by="tokens are good for one idempotency key; the key merges repetitions",
        seen_by="the first job's answer, or 401 `token_replayed`",
    )


async def test_a_fork_gets_nothing_of_its_base(site, platform, failed):
    fork = {"repository": "acme/app-fork", "fork": "true", "ref_protected": "false"}
    claimed = {"repository": "acme/app", "fork": "false", "ref_protected": "true"}
    for number, asked in enumerate(
        ({}, {"pool": "release"}, {"deployment_environment": "staging"}, {"claimed": claimed})
    ):
        answer = await site.dispatch_as(platform.token(**fork), f"fork-{number}", **asked)
        assert answer.status == 202
        view = await site.installation.finished(answer.body["id"])
        assert (view["result"], view["reason"]) == ("denied", "policy_denied"), view
        assert "fork" in json.dumps(view["decisions"])
        assert view["runner"] in (None, {}) or not view["runner"].get("uid"), view["runner"]
    failed(
        "T10",
        "a fork asks for a trusted pool, an environment, or says it is no fork",
        stopped_by="policy over the platform's verified claims; what the job says of itself counts for nothing",
        seen_by="`policy_denied` with the rule's words; no runner was made",
    )

    script = "\n".join(
        [*(f"orchestrator-token --audience {audience} && visit token" for audience in (CACHE, STAGING)), "visit done"]
    )
    token = platform.token(**fork)
    answer = await site.dispatch_as(token, "fork-in-its-pool", script=script, pool="forks", claimed=claimed)
    view = await site.installation.finished(answer.body["id"])
    assert site.witness.words(answer.body["id"]) == ["done"], view
    assert {one["reason"] for one in view["token_refusals"]} == {"policy_deny"}
    failed(
        "T10",
        "a fork, in the pool it may use, asks for its base's tokens",
        stopped_by="the untrusted tier gets no token at all",
        seen_by="`policy_deny` among the job's refusals",
    )


async def test_equal_names_are_not_equal_subjects(site, platform, failed):
    subjects = {}
    for repository in ("acme/app", "mallory/app"):
        spell = f'orchestrator-token --audience {CACHE} > t && visit secret-$(od -An -v -tx1 t | tr -d " \\n")'
        answer = await site.dispatch_as(platform.token(repository), repository, script=spell)
        assert answer.status == 202, answer
        view = await site.installation.finished(answer.body["id"])
        assert view["result"] == "success", view
        (word,) = site.witness.words(answer.body["id"])
        token = bytes.fromhex(word.removeprefix("secret-")).decode().strip()
        subjects[repository] = jwt.decode(token, options={"verify_signature": False})
    assert subjects["acme/app"]["sub"] != subjects["mallory/app"]["sub"]
    assert subjects["mallory/app"]["repository_id"] == "667"
    assert "667" in subjects["mallory/app"]["sub"]
    failed(
        "T10",
        "a repository of the same name under another owner",
        stopped_by="subjects are made of immutable ids and carry the issuer",
        seen_by="another `sub`, which no trust policy of the first matches",
    )
