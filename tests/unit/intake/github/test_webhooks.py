"""Deliveries as bytes: whose they are, what they tell, and that nothing unsigned decides."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.urls import parse_github_url
from orchestrator.intake.github.webhooks.delivery import (
    DeliveryHead,
    WebhookRefusedError,
    check_signature,
    read_head,
    read_job,
)

ORGANISATION = parse_github_url("https://github.com/acme")
REPOSITORY = parse_github_url("https://github.com/acme/shop")
HEAD = DeliveryHead("72d3162e-cc78-11e3-81ab-4c9367dc0958", "workflow_job", b"")
SECRET = b"It's a Secret to Everybody"


def sign(body: bytes, secret: bytes = SECRET) -> bytes:
    return hmac.digest(secret, body, "sha256")


def payload(**changes: Any) -> dict[str, Any]:
    return {
        "action": "queued",
        "workflow_job": {"id": 31337, "run_id": 9001, "labels": ["self-hosted"], "status": "queued"},
        "repository": {"id": 101, "full_name": "acme/shop"},
    } | changes


def test_the_vector_that_github_publishes():
    signature = bytes.fromhex("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")
    check_signature(b"Hello, World!", signature, [SECRET])


def test_two_secrets_count_while_one_takes_over_from_the_other():
    body = b"{}"
    for secrets in ([b"old", b"new"], [b"new", b"old"]):
        check_signature(body, sign(body, b"new"), secrets)
        check_signature(body, sign(body, b"old"), secrets)
    with pytest.raises(WebhookRefusedError):
        check_signature(body, sign(body, b"old"), [b"new"])


@pytest.mark.parametrize("secrets", [[], [b""], [b"other"]])
def test_no_secret_no_trust(secrets):
    with pytest.raises(WebhookRefusedError) as caught:
        check_signature(b"", sign(b"", b""), secrets)
    assert caught.value.reason == "webhook_signature_invalid"


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=200), st.integers(0, 255))
def test_a_changed_body_is_not_signed(body, other, flip):
    signature = sign(body)
    check_signature(body, signature, [SECRET])
    if other != body:
        with pytest.raises(WebhookRefusedError):
            check_signature(other, signature, [SECRET])
    if flip:
        with pytest.raises(WebhookRefusedError):
            check_signature(body, bytes([signature[0] ^ flip, *signature[1:]]), [SECRET])


GOOD = {
    "X-Hub-Signature-256": "sha256=" + "0" * 64,
    "X-GitHub-Delivery": HEAD.id,
    "X-GitHub-Event": "workflow_job",
}


def test_headers():
    assert read_head(GOOD) == DeliveryHead(HEAD.id, "workflow_job", bytes(32))


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("X-Hub-Signature-256", "", "webhook_signature_missing"),
        ("X-Hub-Signature-256", "sha1=" + "0" * 40, "webhook_signature_missing"),
        ("X-Hub-Signature-256", "sha256=" + "0" * 63, "webhook_signature_missing"),
        ("X-Hub-Signature-256", "sha256=" + "0" * 65, "webhook_signature_missing"),
        ("X-Hub-Signature-256", "sha256=" + "٠" * 64, "webhook_signature_missing"),
        ("X-GitHub-Delivery", "", "webhook_malformed"),
        ("X-GitHub-Delivery", "x" * 65, "webhook_malformed"),
        ("X-GitHub-Delivery", "a b c d e f", "webhook_malformed"),
        ("X-GitHub-Event", "Workflow Job", "webhook_malformed"),
    ],
)
def test_headers_that_cannot_be(header, value, reason):
    with pytest.raises(WebhookRefusedError) as caught:
        read_head(GOOD | {header: value})
    assert caught.value.reason == reason
    assert not value or value not in caught.value.diagnostics()


def test_what_a_payload_tells():
    body = json.dumps(payload()).encode()
    hint = read_job(HEAD, body, ORGANISATION)
    assert hint is not None
    assert (hint.owner, hint.repository, hint.run_id, hint.job_id) == ("acme", "shop", 9001, 31337)
    assert hint.digest == hashlib.sha256(body).digest()
    assert hint == read_job(HEAD, body, REPOSITORY)


@pytest.mark.parametrize(
    "changes",
    [
        {"repository": {"id": 5, "full_name": "evil/shop"}},
        {"repository": {"id": 5, "full_name": "acme"}},
        {"repository": {"id": 5, "full_name": ""}},
        {"action": "exploded"},
        {"action": None},
        {"workflow_job": {"id": 0, "run_id": 9001}},
        {"workflow_job": {"id": 31337, "run_id": -1}},
    ],
)
def test_what_is_none_of_ours_is_passed_over(changes):
    assert read_job(HEAD, json.dumps(payload(**changes)).encode(), ORGANISATION) is None


def test_a_repositorys_source_looks_at_no_other():
    body = json.dumps(payload(repository={"id": 5, "full_name": "acme/secret"})).encode()
    assert read_job(HEAD, body, REPOSITORY) is None
    assert read_job(HEAD, body, parse_github_url("https://github.com/enterprises/acme")) is None


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b"{}"),
        json.dumps(payload(workflow_job=[])).encode(),
        json.dumps(payload(workflow_job={"id": "x", "run_id": 1})).encode(),
        json.dumps(payload(repository={"full_name": "a" * 300})).encode(),
    ],
)
def test_what_is_no_event_is_malformed(body):
    with pytest.raises(WebhookRefusedError) as caught:
        read_job(HEAD, body, ORGANISATION)
    assert caught.value.reason == "webhook_malformed"
