"""Places that keep checkpoints: files, real web servers on loopback, and how they are kept up to date."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.audit import anchor_file
from orchestrator.evidence.audit.anchor_file import FileAnchor
from orchestrator.evidence.audit.anchor_http import HttpAnchor
from orchestrator.evidence.audit.anchor_s3 import ObjectStoreAnchor, object_key
from orchestrator.evidence.audit.anchors import Anchoring, AnchorState, unaccepted_ns
from orchestrator.evidence.audit.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey, split_notes
from orchestrator.testing.clock import START_NS, SteppedClock


@pytest.fixture
def checkpoints(key) -> list[Checkpoint]:
    return [sign_checkpoint(key, size, bytes([size]) * 32) for size in range(5)]


# ── a file ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_gets_each_checkpoint_once(tmp_path, key, checkpoints):
    path = tmp_path / "elsewhere"
    anchor = FileAnchor(path)
    for one in (checkpoints[1], checkpoints[1], checkpoints[2], checkpoints[2]):
        await anchor.put(one)
    await FileAnchor(path).put(checkpoints[2])
    notes = split_notes(path.read_bytes())
    assert [read_checkpoint(note, key.verifier).size for note in notes] == [1, 2]
    assert anchor.name == f"file:{path}"
    await anchor.close()


async def test_a_half_written_note_is_set_apart(tmp_path, key, checkpoints):
    path = tmp_path / "elsewhere"
    await FileAnchor(path).put(checkpoints[1])
    for cut in (5, 40, 100):
        with path.open("a") as file:
            file.write(checkpoints[2].note[:cut])
        await FileAnchor(path).put(checkpoints[3])
        notes = split_notes(path.read_bytes())
        assert read_checkpoint(notes[-1], key.verifier).size == 3
    assert read_checkpoint(notes[0], key.verifier).size == 1


async def test_a_file_that_cannot_be_written_is_told(tmp_path, checkpoints):
    for path in (tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(TryAgainError) as caught:
            await FileAnchor(path).put(checkpoints[1])
        assert caught.value.reason == "anchor_refused"
        assert str(path) in str(caught.value)
        assert caught.value.fix
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TryAgainError, match="no file"):
        await FileAnchor(tmp_path / "pipe").put(checkpoints[1])


async def test_a_part_that_was_written_is_taken_back(tmp_path, checkpoints, monkeypatch):
    path = tmp_path / "elsewhere"
    await FileAnchor(path).put(checkpoints[1])
    before = path.read_bytes()
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:20]))
        with pytest.raises(TryAgainError, match="only a part"):
            await FileAnchor(path).put(checkpoints[2])
    assert path.read_bytes() == before


async def test_a_share_that_hangs_holds_one_thread_only(tmp_path, checkpoints, monkeypatch):
    path = tmp_path / "elsewhere"
    go, begun = threading.Event(), 0
    real = os.open

    def hang(*given: Any, **named: Any) -> int:
        nonlocal begun
        if given[0] == path:
            begun += 1
            go.wait(10)
        return real(*given, **named)

    monkeypatch.setattr(os, "open", hang)
    monkeypatch.setattr(anchor_file, "TIMEOUT_SECONDS", 0.05)
    anchor = FileAnchor(path)
    for _ in range(3):
        with pytest.raises(TryAgainError) as caught:
            await anchor.put(checkpoints[1])
        assert caught.value.reason == "anchor_unreachable"
    assert begun == 1
    go.set()
    async with asyncio.timeout(10):
        while anchor._busy:
            await asyncio.sleep(0.01)
    await anchor.put(checkpoints[1])
    assert len(split_notes(path.read_bytes())) == 1


HANGING = """
import asyncio, os, sys, threading
from pathlib import Path
from orchestrator.evidence.audit import anchor_file
from orchestrator.evidence.audit.checkpoint import sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey

path, real = Path(sys.argv[1]), os.open
os.open = lambda *given, **named: threading.Event().wait() if given[0] == path else real(*given, **named)
anchor_file.TIMEOUT_SECONDS = 0.05
anchor = anchor_file.FileAnchor(path)
try:
    asyncio.run(anchor.put(sign_checkpoint(NoteKey.generate("ci.example/audit"), 1, b"r" * 32)))
except Exception as error:
    print(error.reason)
"""


def test_a_share_that_hangs_does_not_keep_the_program_from_ending(tmp_path):
    command = [sys.executable, "-c", HANGING, str(tmp_path / "elsewhere")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "anchor_unreachable\n"), done.stderr


# ── the web ───────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """A web server that keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.rel_url.raw_path, headers, await request.read()))
        return web.Response(status=self.status, headers=self.headers)


@pytest.fixture
async def place():
    made = Place()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = site.name.rstrip("/")
    yield made
    await runner.cleanup()


async def test_a_web_address_gets_the_note_and_the_headers_as_they_are_now(tmp_path, place, checkpoints):
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer one\n\nX-Site: a b\n")
    anchor = HttpAnchor(f"{place.url}/keep?log=1", method="PUT", headers_file=secret)
    await anchor.put(checkpoints[1])
    secret.write_text("Authorization: Bearer two")
    await anchor.put(checkpoints[2])
    await anchor.close()
    await anchor.close()
    [(method, path, first, body), (_, _, second, _)] = place.requests
    assert (method, path, body.decode()) == ("PUT", "/keep", checkpoints[1].note)
    assert (first["authorization"], first["x-site"]) == ("Bearer one", "a b")
    assert second["authorization"] == "Bearer two"
    assert first["content-type"] == "text/plain; charset=utf-8"
    assert "Bearer" not in anchor.name


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 409, 429, 500, 503])
async def test_any_other_answer_is_no_acceptance(place, checkpoints, status):
    place.status = status
    place.headers = {"Retry-After": "17", "Location": f"{place.url}/elsewhere"}
    anchor = HttpAnchor(place.url)
    with pytest.raises(TryAgainError, match=str(status)) as caught:
        await anchor.put(checkpoints[1])
    assert caught.value.reason == "anchor_refused"
    assert caught.value.retry_after_seconds == 17
    assert [request[0] for request in place.requests] == ["POST"]
    await anchor.close()


async def test_nobody_there(place, checkpoints, unused_port):
    anchor = HttpAnchor(f"http://127.0.0.1:{unused_port}/x")
    with pytest.raises(TryAgainError) as caught:
        await anchor.put(checkpoints[1])
    assert caught.value.reason == "anchor_unreachable"
    await anchor.close()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "text",
    ["no colon", "A B: c", "X: \x01", "X:\u00e4", "X: " + "y" * 20_000, "\n".join(f"X{n}: y" for n in range(40))],
)
async def test_headers_of_another_form_are_told_and_not_repeated(tmp_path, place, checkpoints, text):
    secret = tmp_path / "headers"
    secret.write_text(text)
    anchor = HttpAnchor(place.url, headers_file=secret)
    with pytest.raises(TryAgainError) as caught:
        await anchor.put(checkpoints[1])
    assert caught.value.reason == "anchor_misconfigured"
    assert text not in caught.value.diagnostics()
    secret.unlink()
    with pytest.raises(TryAgainError, match="No such file"):
        await anchor.put(checkpoints[1])
    assert place.requests == []
    await anchor.close()


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("ftp://a.example/", False), ("https://", False), ("https://u:p@a.example/", False), ("a.example", False),
        ("https://:p@a.example/", False),
        ("https://a.example/#x", False), ("https://a.example/a b", False), ("https://a.example:x/", False),
        ("https://\u00e4.example/", False), ("", False), ("http://a.example/", True),
    ],
)  # fmt: skip
def test_addresses_that_do_not_fit(tmp_path, url, secret):
    with pytest.raises(ConfigurationError) as caught:
        HttpAnchor(url, headers_file=tmp_path / "headers" if secret else None)
    assert caught.value.reason == "audit_anchor_invalid"
    assert "p@" not in caught.value.diagnostics()


async def test_a_ca_that_is_not_the_servers_is_not_trusted(tmp_path, checkpoints, server_tls):
    context, ca = server_tls
    made = Place()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        stranger = HttpAnchor(site.name)
        with pytest.raises(TryAgainError) as caught:
            await stranger.put(checkpoints[1])
        assert caught.value.reason == "anchor_unreachable"
        known = HttpAnchor(site.name, ca_file=ca)
        await known.put(checkpoints[1])
        assert len(made.requests) == 1
        await stranger.close()
        await known.close()
    finally:
        await runner.cleanup()
    (tmp_path / "no.pem").write_text("no certificate")
    for path in (tmp_path / "no.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError, match=str(path)):
            HttpAnchor(site.name, ca_file=path)


@pytest.fixture
def server_tls(tmp_path) -> tuple[ssl.SSLContext, Path]:
    """A certificate of its own for 127.0.0.1."""
    import ipaddress
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anchor")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(private, hashes.SHA256())
    )
    ca, own = tmp_path / "ca.pem", tmp_path / "own.pem"
    ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    own.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + ca.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    return context, ca


# ── an object store ───────────────────────────────────────────────────────────────────────────────────────

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS = f"[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {SECRET}\n"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def signed_rightly(method: str, path: str, headers: dict[str, str], body: bytes) -> bool:
    """Reckons the signature again, by the steps of AWS's page, from what came over the wire."""
    told = headers["authorization"]
    names = told.split("SignedHeaders=")[1].split(",")[0].split(";")
    canonical = "\n".join(
        [method, path, "", *(f"{name}:{headers[name]}" for name in names), "", ";".join(names),
         hashlib.sha256(body).hexdigest()]
    )  # fmt: skip
    scope = "20260102/eu-test-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n20260102T030405Z\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + SECRET.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return told.startswith(f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, ") and told.endswith(
        f"Signature={hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"
    )


@pytest.mark.parametrize("prefix", ["/bucket", "/bucket/ci_1/audit.d/", ""])
@pytest.mark.parametrize("token", ["", "session-token-value"])
async def test_each_checkpoint_is_an_object_of_its_own_under_a_right_signature(
    tmp_path, place, checkpoints, prefix, token
):
    file = tmp_path / "credentials"
    file.write_text(CREDENTIALS + (f"aws_session_token = {token}\n" if token else ""))
    anchor = ObjectStoreAnchor(f"{place.url}{prefix}", "eu-test-1", file, now=lambda: AT)
    for one in checkpoints[1:3]:
        await anchor.put(one)
    await anchor.close()
    below = prefix.rstrip("/")
    assert [request[1] for request in place.requests] == [
        f"{below}/ci.example-audit/00000000000000000001-0101010101010101.checkpoint",
        f"{below}/ci.example-audit/00000000000000000002-0202020202020202.checkpoint",
    ]
    for (method, path, headers, body), checkpoint in zip(place.requests, checkpoints[1:3], strict=True):
        assert method == "PUT"
        assert body.decode() == checkpoint.note
        assert signed_rightly(method, path, headers, body)
        assert headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        assert headers.get("x-amz-security-token", "") == token
        assert not token or "x-amz-security-token" in headers["authorization"]
        assert SECRET not in str(headers)


@pytest.mark.parametrize(
    "text", ["", "[default]\naws_access_key_id = a\n", "[other]\n" + CREDENTIALS.partition("\n")[2], "x = y\n" + SECRET]
)
async def test_credentials_of_another_form_are_told_and_not_repeated(tmp_path, place, checkpoints, text):
    file = tmp_path / "credentials"
    file.write_text(text)
    anchor = ObjectStoreAnchor(f"{place.url}/bucket", "eu-test-1", file)
    with pytest.raises(TryAgainError) as caught:
        await anchor.put(checkpoints[1])
    assert caught.value.reason == "anchor_misconfigured"
    assert SECRET not in caught.value.diagnostics()
    assert place.requests == []


@pytest.mark.parametrize("path", ["/a%20b", "/a/../b", "/a/.", "/a//b", "/b?x=1", "/b\u00e4"])
def test_bucket_addresses_that_a_signature_cannot_hold(tmp_path, path):
    with pytest.raises(ConfigurationError) as caught:
        ObjectStoreAnchor(f"https://s3.example{path}", "eu-test-1", tmp_path / "credentials")
    assert caught.value.reason == "audit_anchor_invalid"


@pytest.mark.parametrize(
    ("origin", "folder"),
    [("ci.example:8443/audit", "ci.example-8443-audit"), ("..", "audit"), ("\u00e4/\u00f6", "-"), ("a%2Fb", "a-2Fb")],
)
def test_an_object_is_named_with_plain_characters_only(origin, folder):
    checkpoint = sign_checkpoint(NoteKey.generate(origin), 7, b"\xff" * 32)
    assert object_key(checkpoint) == f"{folder}/00000000000000000007-ffffffffffffffff.checkpoint"


# ── keeping a place up to date ────────────────────────────────────────────────────────────────────────────


class Scripted:
    """An anchor in memory: fails while `error` is set, waits while `hold` is."""

    name = "scripted"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.tries = 0
        self.kept: list[int] = []
        self.go = asyncio.Event()
        self.go.set()
        self.closed = 0

    async def put(self, checkpoint: Checkpoint) -> None:
        self.tries += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.kept.append(checkpoint.size)

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
async def anchoring():
    clock, anchor = SteppedClock(), Scripted()
    made = Anchoring(anchor, clock)
    task = asyncio.ensure_future(made.run())
    yield made, anchor, clock
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert anchor.closed == 1


async def test_what_is_offered_is_brought_at_once(anchoring, checkpoints):
    made, anchor, clock = anchoring
    assert await made.accepted(0.01)
    for one in checkpoints[1:3]:
        made.offer(one)
        assert await made.accepted(5)
    assert anchor.kept == [1, 2]
    assert made.state == AnchorState("scripted", 2, clock.now_ns())


async def test_while_a_place_is_away_only_the_newest_waits_and_pauses_grow(anchoring, checkpoints):
    made, anchor, clock = anchoring
    anchor.error = TryAgainError("it is away", fix="wait")
    made.offer(checkpoints[1])
    await clock.advance(0)
    assert anchor.tries == 1
    assert not await made.accepted(0.01)
    await clock.advance(0.7)
    assert anchor.tries == 1
    await clock.advance(0.6)
    assert anchor.tries == 2
    await clock.advance(600)
    assert 14 <= anchor.tries <= 22
    made.offer(checkpoints[2])
    made.offer(checkpoints[3])
    assert made.state.waiting_ns == START_NS
    assert made.state.failures == anchor.tries
    assert made.state.error == "it is away\n  fix: wait"
    anchor.error = None
    await clock.advance(75)
    assert anchor.kept == [3]
    assert (made.state.size, made.state.waiting_ns, made.state.error) == (3, 0, "")


async def test_one_that_comes_during_a_try_is_brought_next(anchoring, checkpoints):
    made, anchor, clock = anchoring
    anchor.go.clear()
    made.offer(checkpoints[1])
    await clock.advance(0)
    await clock.advance(5)
    made.offer(checkpoints[2])
    offered_ns = clock.now_ns()
    anchor.go.set()
    assert await made.accepted(5)
    assert anchor.kept == [1, 2]
    assert made.state.waiting_ns == 0
    anchor.go.clear()
    made.offer(checkpoints[3])
    assert made.state.waiting_ns == offered_ns


async def test_a_places_wish_is_heard_within_bounds(anchoring, checkpoints):
    made, anchor, clock = anchoring
    anchor.error = TryAgainError("later", retry_after_seconds=100)
    made.offer(checkpoints[1])
    await clock.advance(0)
    anchor.error = TryAgainError("much later", retry_after_seconds=1e9)
    await clock.advance(99)
    assert anchor.tries == 1
    await clock.advance(1)
    assert anchor.tries == 2
    anchor.error = None
    await clock.advance(299)
    assert anchor.tries == 2
    await clock.advance(1)
    assert anchor.kept == [1]


async def test_a_defect_in_an_anchor_shows_and_ends_nothing(anchoring, checkpoints):
    made, anchor, clock = anchoring
    anchor.error = ZeroDivisionError("defect")
    made.offer(checkpoints[1])
    await clock.advance(0)
    assert "ZeroDivisionError" in made.state.error
    anchor.error = None
    await clock.advance(2)
    assert anchor.kept == [1]


@pytest.mark.parametrize(("waiting", "since"), [([], 0), ([0], 0), ([5], 5), ([5, 7], 7), ([5, 0, 7], 0)])
def test_since_when_no_place_has_everything(waiting, since):
    assert unaccepted_ns([AnchorState("a", waiting_ns=one) for one in waiting]) == since
