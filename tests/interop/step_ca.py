"""step-ca, a certificate authority in Go by Smallstep. Of us it knows what a recipe printed, and nothing else."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from interop import STEP_CA, Program

HOST = "ca.example"
PEM = serialization.Encoding.PEM


class StepCa:
    """Fetches our keys as `issuer_ca_file` vouches for them. `root_pem` is whom jobs trust for `https://ca.example:<port>`."""

    def __init__(self, folder: Path, provisioner: dict[str, Any], issuer_ca_file: Path, port: int) -> None:
        folder.mkdir()
        self.port = port
        root_file = folder / "root.pem"
        self.root_pem = _authority(folder)
        settings = {
            "root": str(root_file),
            "crt": str(root_file),
            "key": str(folder / "key.pem"),
            "address": f"127.0.0.1:{self.port}",
            "dnsNames": [HOST, "localhost"],
            "logger": {"format": "json"},
            "authority": {"provisioners": [provisioner]},
        }
        (folder / "ca.json").write_text(json.dumps(settings))
        self.trust = ssl.create_default_context(cafile=str(root_file))
        environment = {"SSL_CERT_FILE": str(issuer_ca_file), "HOME": str(folder), "PATH": os.environ["PATH"]}
        self.program = Program([str(STEP_CA), "ca.json"], folder, environment)

    async def ready(self) -> None:
        await self.program.ready(lambda: self.ask("health")[0] == 200)

    def end(self) -> None:
        self.program.end()

    def sign(self, token: str, key: ec.EllipticCurvePrivateKey, **more: str) -> tuple[int, dict[str, Any]]:
        """Its answer to a request for this key with this token. Blocks."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "anybody")])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        return self.ask("1.0/sign", {"csr": csr.public_bytes(PEM).decode(), "ott": token} | more)

    def ask(
        self, path: str, body: dict[str, Any] | None = None, trust: ssl.SSLContext | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and body; 0 when nobody answers. Blocks."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://localhost:{self.port}/{path}", data)
        direct = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust or self.trust)
        )
        try:
            with direct.open(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}


def _authority(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "interop step-ca")])
    begin = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    root = certificate.public_bytes(PEM)
    (folder / "root.pem").write_bytes(root)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return root.decode()
