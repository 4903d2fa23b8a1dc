"""What terminates TLS before the daemon, as everywhere, with an authority that only the tests know."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class TlsProxy:
    """Passes everything on to `daemon`. `ca_file` is whom to trust for `https://localhost:<port>`."""

    def __init__(self, folder: Path, port: int, daemon: str) -> None:
        self.folder, self.port, self.daemon = folder, port, daemon
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(certificates(folder, ("localhost",)))
        self.ca_file.chmod(0o644)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, ssl_context=server_context(self.folder)).start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.runner.cleanup()

    async def _forward(self, request: web.Request) -> web.Response:
        return await forward(request, self.daemon)


async def forward(request: web.Request, daemon: str) -> web.Response:
    body = await request.read()
    headers = {name: request.headers[name] for name in ("Content-Type", "Accept") if name in request.headers}
    async with (
        aiohttp.ClientSession() as session,
        session.request(request.method, daemon + request.path_qs, data=body or None, headers=headers) as answer,
    ):
        return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)


def server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def certificates(folder: Path, hosts: tuple[str, ...]) -> str:
    """`server.pem` in `folder` for these hosts, and the authority that vouches for it."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "interop tests")])
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
    begin = datetime.now(UTC) - timedelta(minutes=5)

    def builder(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=1))
        )

    authority_id = x509.SubjectKeyIdentifier.from_public_key(keys[0].public_key())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    authority = (
        builder(name, keys[0])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(authority_id, critical=False)
        .sign(keys[0], hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    leaf = (
        builder(server, keys[1])
        .add_extension(names, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
        .sign(keys[0], hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + leaf.public_bytes(pem))
    return authority.public_bytes(pem).decode()
