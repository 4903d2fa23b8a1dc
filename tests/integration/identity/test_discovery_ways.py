"""Keys of an issuer that has a CA of its own, or is behind a proxy, as a company's own GitHub server is."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.errors import TryAgainError
from orchestrator.identity.issuer_keys import DiscoveredKeys
from orchestrator.identity.jwks import public_jwk

KEY = ec.generate_private_key(ec.SECP256R1())
KID = public_jwk(KEY.public_key())["kid"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """One for localhost, of its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
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
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
async def issuer(certificate) -> AsyncIterator[str]:
    """The URL of an issuer that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    app = web.Application()
    server = TestServer(app, host="localhost", scheme="https")

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/openid-configuration"):
            url = f"https://localhost:{server.port}/_services/token"
            return web.json_response({"issuer": url, "jwks_uri": f"{url}/.well-known/jwks"})
        return web.json_response({"keys": [dict(public_jwk(KEY.public_key()))]})

    app.router.add_get("/_services/token/.well-known/{name}", answer)
    await server.start_server(ssl=context)
    yield f"https://localhost:{server.port}/_services/token"
    await server.close()


async def test_an_authority_of_ones_own_must_be_named(issuer, certificate):
    plain = DiscoveredKeys(issuer, time.monotonic)
    with pytest.raises(TryAgainError) as caught:
        await plain.key(KID)
    assert caught.value.reason == "issuer_unreachable"
    await plain.close()
    trusting = DiscoveredKeys(issuer, time.monotonic, ssl_context=ssl.create_default_context(cafile=certificate))
    assert await trusting.key(KID) is not None
    assert await trusting.key("other") is None
    await trusting.close()


async def test_keys_come_by_the_proxy(issuer, certificate):
    asked: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0])
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        far_reader, far_writer = await asyncio.open_connection("localhost", port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer), return_exceptions=True)

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    keys = DiscoveredKeys(
        issuer,
        time.monotonic,
        ssl_context=ssl.create_default_context(cafile=certificate),
        proxy=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}",
    )
    assert await keys.key(KID) is not None
    assert asked
    assert all(line.startswith(b"CONNECT localhost:") for line in asked)
    await keys.close()
    proxy.close()
    await proxy.wait_closed()
