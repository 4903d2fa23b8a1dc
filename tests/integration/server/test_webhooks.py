"""Webhooks over real sockets: forged, replayed, lying, too large, too slow, for nobody; and secrets that change."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.identity.secret_file import SecretFile
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.receiver import WebhookReceiver
from orchestrator.server.deps import Limits
from orchestrator.server.sources import webhooks as route

CANARY = "c4n4ry-Zx81"
SECRET = b"correct horse battery staple"


@pytest.fixture
def limits() -> Limits:
    return Limits(body_timeout_seconds=0.4)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


@pytest.fixture
async def inbox(tmp_path: Path):
    made = WebhookInbox(tmp_path / "inbox.sqlite", time.time_ns, max_waiting=5)
    yield made
    await made.close()


@pytest.fixture
def webhooks(secret_file: Path, inbox: WebhookInbox, tmp_path: Path) -> dict[str, Any]:
    url = parse_github_url("https://github.com/acme")
    secrets = [SecretFile(path, "the webhook secret").read for path in (tmp_path / "next", secret_file)]
    return {"acme": WebhookReceiver(url, secrets, inbox, max_body_bytes=1 << 20)}


def event(number: int = 1, **changes: Any) -> bytes:
    body = {
        "action": "queued",
        "workflow_job": {"id": number, "run_id": 9001},
        "repository": {"full_name": "acme/shop"},
        "note": CANARY,
    }
    return json.dumps(body | changes).encode()


async def post(
    api: Any, body: bytes, *, secret: bytes = SECRET, source: str = "acme", data: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    sent = {
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret, body, "sha256").hexdigest(),
        "X-GitHub-Delivery": f"delivery-{hash(body)}",
        "X-GitHub-Event": "workflow_job",
        "Content-Type": "application/json",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    async with api.client.post(
        f"{api.url}/webhooks/github/{source}", data=data or io.BytesIO(body), headers=sent
    ) as answer:
        text = await answer.text()
        assert CANARY not in text
        return answer.status, json.loads(text)


async def test_a_delivery_is_on_disk_when_it_is_answered(api, inbox):
    assert await post(api, event()) == (202, {"receipt": "accepted"})
    [kept] = await inbox.pending(10)
    assert (kept.owner, kept.repository, kept.run_id, kept.job_id) == ("acme", "shop", 9001, 1)


async def test_a_replay_is_known_whatever_its_unsigned_headers_say(api, inbox):
    await post(api, event())
    assert await post(api, event()) == (202, {"receipt": "known"})
    replayed = await post(api, event(), X_GitHub_Delivery="another-delivery-id")
    assert replayed == (202, {"receipt": "known"})
    assert len(await inbox.pending(10)) == 1


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({"secret": b"guess"}, 403, "webhook_signature_invalid"),
        ({"X_Hub_Signature_256": ""}, 403, "webhook_signature_missing"),
        ({"X_Hub_Signature_256": "sha1=" + "0" * 40}, 403, "webhook_signature_missing"),
        ({"X_GitHub_Delivery": ""}, 400, "webhook_malformed"),
        ({"X_GitHub_Event": "WORKFLOW"}, 400, "webhook_malformed"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415, "media_type_unsupported"),
        ({"Content_Encoding": "gzip"}, 415, "media_type_unsupported"),
        ({"source": "other"}, 404, "not_found"),
        ({"source": "..%2Facme"}, 404, "not_found"),
    ],
)
async def test_what_is_not_believed_leaves_nothing(api, inbox, headers, status, reason):
    answered, document = await post(api, event(), **headers)
    assert (answered, document["reason"]) == (status, reason)
    assert await inbox.pending(10) == []


async def test_a_signature_of_another_body_is_forged(api, inbox):
    signature = "sha256=" + hmac.new(SECRET, event(1), "sha256").hexdigest()
    status, document = await post(api, event(2), X_Hub_Signature_256=signature)
    assert (status, document["reason"]) == (403, "webhook_signature_invalid")
    assert "WWW-Authenticate" not in document
    assert await inbox.pending(10) == []


async def test_what_is_signed_and_none_of_ours_is_ignored(api, inbox):
    elsewhere = event(repository={"full_name": "evil/shop"})
    assert await post(api, elsewhere) == (202, {"receipt": "ignored"})
    assert await post(api, b'{"zen": "x"}', X_GitHub_Event="ping") == (202, {"receipt": "ignored"})
    status, document = await post(api, b'{"zen": "x"}')
    assert (status, document["reason"]) == (400, "webhook_malformed")
    assert await inbox.pending(10) == []


async def test_secrets_are_rotated_while_we_run(api, tmp_path, secret_file):
    fresh = b"the next secret"
    assert (await post(api, event(1), secret=fresh))[0] == 403
    (tmp_path / "next").write_bytes(fresh)
    assert (await post(api, event(1), secret=fresh))[0] == 202
    assert (await post(api, event(2)))[0] == 202, "the old one counts until it is taken away"
    secret_file.unlink()
    assert (await post(api, event(3)))[0] == 403
    (tmp_path / "next").write_bytes(b"   \n")
    status, document = await post(api, event(4), secret=b"")
    assert (status, document["reason"]) == (503, "webhook_secret_unreadable")


async def test_a_full_inbox_says_so_and_takes_in_again(api, inbox):
    for number in range(1, 6):
        assert (await post(api, event(number)))[0] == 202
    status, document = await post(api, event(6))
    assert (status, document["reason"]) == (503, "webhook_inbox_full")
    await inbox.done([kept.delivery for kept in await inbox.pending(10)])
    assert (await post(api, event(6)))[0] == 202


async def test_too_large_a_body_is_refused_before_it_is_read(api):
    large = event(filler="x" * (1 << 20))
    status, document = await post(api, large)
    assert (status, document["reason"]) == (413, "body_too_large")

    async def pieces():
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    with contextlib.suppress(ConnectionError, OSError):  # it may be cut while we still send
        status, document = await post(api, large, data=pieces())
        assert (status, document["reason"]) == (413, "body_too_large")


async def test_a_large_body_within_the_bound_is_taken(api):
    assert await post(api, event(filler="x" * (1 << 19))) == (202, {"receipt": "accepted"})


async def test_a_slow_body_is_not_waited_for(api):
    head = (
        b"POST /webhooks/github/acme HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"X-GitHub-Event: workflow_job\r\nContent-Length: 1000\r\n\r\n{"
    )
    answer = await api.raw(head)
    assert b" 408 " in answer.split(b"\r\n", 1)[0]
    assert b"body_too_slow" in answer


async def test_whoever_has_no_secret_cannot_make_us_hold_much(api, monkeypatch):
    monkeypatch.setattr(route, "BUDGET_BYTES", 300_000)
    head = (
        b"POST /webhooks/github/acme HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"X-GitHub-Event: workflow_job\r\nContent-Length: 900000\r\n\r\n"
    )
    answers = await asyncio.gather(*(api.raw(head + b"x" * 200_000) for _ in range(2)))
    statuses = sorted(int(answer.split(b" ", 2)[1]) for answer in answers)
    assert statuses == [408, 503]
    assert (await post(api, event()))[0] == 202, "what they held is free again"
