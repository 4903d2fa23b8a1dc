"""HTTP itself, against servers that misbehave: bounds, proxies, certificates, redirects."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opened import serving, until

from orchestrator.intake.github import errors
from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.connection import GitHubConnection, Timing, TokenCredential
from orchestrator.intake.github.scale_sets.protocol import Credential, Repeat, Request
from orchestrator.intake.github.transport import CONCURRENT, Transport
from orchestrator.intake.github.urls import parse_github_url


@asynccontextmanager
async def transport(url, **more):
    who = TokenCredential(lambda: "ghp_unused")
    connection = GitHubConnection(parse_github_url(f"{url}/acme"), who, **{"timeout_seconds": 5, **more})
    made = Transport(connection, Timing())
    try:
        yield made
    finally:
        await made.close()


def get(url, **more):
    return Request("thing", "GET", url, Credential.ADMIN, **{"repeat": Repeat.NEVER, **more})


def body(answer: Answer) -> bytes:
    return answer.body


async def test_what_is_sent():
    seen = []

    async def handler(request):
        seen.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response(body=b"ok")

    async with serving(handler) as url, transport(url, user_agent="me/1") as made:
        request = Request("x", "POST", f"{url}/a%2Fb?c=%20d", Credential.ADMIN, body=b"{}", headers={"X-Own": "1"})
        assert await made.call(request, "Bearer t", body) == b"ok"
    ((method, path, headers, sent),) = seen
    assert (method, path, sent) == ("POST", "/a%2Fb?c=%20d", b"{}")
    assert (headers["Authorization"], headers["User-Agent"], headers["X-Own"]) == ("Bearer t", "me/1", "1")


async def test_redirects_are_not_followed():
    seen = []

    async def handler(request):
        seen.append(request.path)
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with serving(handler) as url, transport(url) as made:
        with pytest.raises(errors.RefusedError):
            await made.call(get(f"{url}/here"), "Bearer t", body)
    assert seen == ["/here"]


async def test_an_answer_that_is_too_large():
    async def handler(request):
        return web.Response(body=b"x" * 2000, status=200 if request.path == "/good" else 400)

    async with serving(handler) as url, transport(url) as made:
        with pytest.raises(errors.UnavailableError, match="larger than 1000"):
            await made.call(get(f"{url}/good", limit=1000), "Bearer t", body)
        assert len(await made.call(get(f"{url}/good", limit=2000), "Bearer t", body)) == 2000


async def test_a_refusal_that_is_too_large_is_still_the_refusal():
    async def handler(_):
        return web.Response(body=b"x" * (1 << 20), status=404)

    async with serving(handler) as url, transport(url) as made:
        with pytest.raises(errors.NotFoundError):
            await made.call(get(url), "Bearer t", body)


async def test_a_compressed_answer_is_bounded_by_what_it_unpacks_to():
    async def handler(_):
        answer = web.Response(body=b"x" * (2 << 20))
        answer.enable_compression(web.ContentCoding.gzip)
        return answer

    async with serving(handler) as url, transport(url) as made:
        with pytest.raises(errors.UnavailableError, match="larger than"):
            await made.call(get(url, limit=1 << 20), "Bearer t", body)


@pytest.mark.parametrize("polls", [False, True])
async def test_an_answer_that_trickles_ends(polls):
    async def handler(request):
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)

    async with serving(handler) as url, transport(url, timeout_seconds=0.1, poll_seconds=0.1) as made:
        with pytest.raises(errors.UnavailableError, match="no answer in time"):
            await made.call(get(url, polls=polls), "Bearer t", body)


async def test_nobody_listens():
    async def handler(_):
        return web.Response()

    async with serving(handler) as url:
        pass
    async with transport(url) as made:
        with pytest.raises(errors.UnavailableError, match=r"127\.0\.0\.1 cannot be reached") as caught:
            await made.call(get(url), "Bearer t", body)
    assert caught.value.unsent


async def test_a_cut_connection_is_sent_once_and_counted_once():
    """Also for GET, which the HTTP library would send again by itself."""
    seen = []

    async def handler(request):
        seen.append(request.path)
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url, transport(url) as made:
        with pytest.raises(errors.UnavailableError) as caught:
            await made.call(get(url), "Bearer t", body)
        assert (len(seen), caught.value.unsent) == (1, False)
        count = made.stats.picture().endpoints["thing"]
        assert (count.calls, count.failures, count.last_status) == (1, 1, 0)


async def test_calls_at_once_are_bounded_and_polls_are_not():
    release, open_calls, most = asyncio.Event(), [0], [0]

    async def handler(_):
        open_calls[0] += 1
        most[0] = max(most[0], open_calls[0])
        await release.wait()
        open_calls[0] -= 1
        return web.Response(body=b"ok")

    async with serving(handler) as url, transport(url) as made:
        calls = [made.call(get(url), "Bearer t", body) for _ in range(CONCURRENT + 30)]
        polls = [made.call(get(url, polls=True), "Bearer t", body) for _ in range(20)]
        waiting = asyncio.gather(*calls, *polls)
        await until(lambda: open_calls[0] == CONCURRENT + 20)
        release.set()
        assert await waiting == [b"ok"] * (CONCURRENT + 50)
    assert most[0] <= CONCURRENT + 20 + 30


# --- proxies ----------------------------------------------------------------------------------------------------


async def test_a_proxy_is_used_but_for_hosts_that_need_none():
    seen = []

    async def proxy(request):
        seen.append((request.raw_path, request.headers.get("Proxy-Authorization")))
        return web.Response(body=b"by proxy")

    async def direct(_):
        return web.Response(body=b"direct")

    async with serving(proxy) as through, serving(direct) as url:
        address = through.replace("http://", "http://kim:hunter2@")
        async with transport(url, proxy=address, no_proxy=(".example.org",)) as made:
            assert await made.call(get(f"{url}/x"), "Bearer t", body) == b"by proxy"
        for name in ("127.0.0.1", ".0.0.1"):
            async with transport(url, proxy=address, no_proxy=(name,)) as made:
                assert await made.call(get(f"{url}/x"), "Bearer t", body) == b"direct"
    assert seen == [(f"{url}/x", "Basic a2ltOmh1bnRlcjI=")]


async def test_a_proxy_that_refuses_or_is_away_is_told_without_its_password():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        address = f"http://kim:hunter2@127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with transport("https://github.invalid", proxy=address) as made:
            with pytest.raises(errors.UnavailableError, match="the proxy refused with 407") as refused:
                await made.call(get("https://github.invalid/x"), "Bearer t", body)
    async with transport("https://github.invalid", proxy=address) as made:
        with pytest.raises(errors.UnavailableError, match="the proxy cannot be reached") as away:
            await made.call(get("https://github.invalid/x"), "Bearer t", body)
    for caught in (refused, away):
        assert caught.value.unsent
        assert "hunter2" not in caught.value.diagnostics()


# --- certificates -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "github.test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


async def test_a_certificate_of_ones_own_authority(certificate):
    async def handler(_):
        return web.Response(body=b"ok")

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    trusted = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    async with serving(handler, server) as address:
        url = address.replace("127.0.0.1", "localhost")
        async with transport(url, tls=trusted) as made:
            assert await made.call(get(url), "Bearer t", body) == b"ok"
            with pytest.raises(errors.UnavailableError, match="certificate"):
                await made.call(get(address), "Bearer t", body)
        async with transport(url) as made:
            with pytest.raises(errors.UnavailableError, match="certificate is not accepted") as caught:
                await made.call(get(url), "Bearer t", body)
            assert caught.value.unsent
