"""SeaweedFS: a real object store with a token service (AWS's query API) whose trust policies are judged by our claims.

It differs from AWS in what the conditions are called (`oidc:` instead of the issuer's host, and any claim), and in not
knowing `sts:TagSession`.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from interop import WEED, Program, free_ports

HOST = "s3.interop.internal"
PROVIDER = "runners"
ADMIN = ("admin", "for-the-test-only")
SIGNING_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class ObjectStore:
    """`issuer` is whose tokens it accepts, for `audience` and no other. `roles` are name to (trust policy, actions)."""

    def __init__(self, folder: Path, issuer: str, audience: str, roles: dict[str, tuple[Any, list[Any]]]) -> None:
        folder.mkdir()
        self.folder = folder
        ports = free_ports(8)
        self.port = ports[6]
        self.url = f"http://127.0.0.1:{self.port}"
        self._ports = ports
        self._write(issuer, audience, roles)
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
                 "s3.port", "s3.port.grpc")  # fmt: skip
        self.program = Program(
            [
                *(str(WEED), "server", "-dir", str(folder), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1"),
                *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
                *("-filer", "-s3", f"-s3.config={folder}/s3.json", f"-s3.iam.config={folder}/iam.json"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=10", "-master.volumeSizeLimitMB=32"),
                *("-master.telemetry=false", "-volume.preStopSeconds=0"),
            ],
            folder,
        )

    def _write(self, issuer: str, audience: str, roles: dict[str, tuple[Any, list[Any]]]) -> None:
        provider = {"name": PROVIDER, "type": "oidc", "enabled": True}
        policies = [
            {"name": name, "document": {"Version": "2012-10-17", "Statement": statements}}
            for name, (_, statements) in roles.items()
        ]
        iam = {
            "sts": {"tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "store", "signingKey": SIGNING_KEY},
            "providers": [provider | {"config": {"issuer": issuer, "clientId": audience}}],
            "policies": policies,
            "roles": [
                {"roleName": name, "roleArn": f"arn:aws:iam::role/{name}", "trustPolicy": trust,
                 "attachedPolicies": [name]}
                for name, (trust, _) in roles.items()
            ],
        }  # fmt: skip
        (self.folder / "iam.json").write_text(json.dumps(iam))
        admin = {
            "name": "admin",
            "credentials": [{"accessKey": ADMIN[0], "secretKey": ADMIN[1]}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [admin]}))

    async def ready(self) -> None:
        await self.program.ready(self._answers)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/status", timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def end(self) -> None:
        self.program.end()
        for port in self._ports:  # in /tmp, whatever TMPDIR says
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()

    def assume(self, token: str, role: str) -> str:
        """The code of the refusal of a token, "" when credentials were given. Blocks."""
        try:
            return "" if self.session(token, role)["SecretAccessKey"] else "empty"
        except urllib.error.HTTPError as error:
            return str(ET.fromstring(error.read()).findtext(".//{*}Code"))

    def session(self, token: str, role: str) -> dict[str, str]:
        """What was given, by the names of AWS's answer. Blocks.

        Raises:
            HTTPError: nothing was.
        """
        fields = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": role,
            "RoleSessionName": "interop",
            "DurationSeconds": "900",
            "WebIdentityToken": token,
        }
        request = urllib.request.Request(self.url, data=urllib.parse.urlencode(fields).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = ET.fromstring(answer.read())
        return {element.tag.rpartition("}")[2]: element.text or "" for element in found.iter()}
