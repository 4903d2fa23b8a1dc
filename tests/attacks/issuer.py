"""An OIDC issuer of a CI platform, whose tokens may dispatch jobs, and whoever pretends to be it."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://ci.example"
AUDIENCE = "https://runners.example"


class Platform:
    """Signs tokens as a platform does; `key_file` is what the daemon knows of it."""

    def __init__(self, folder: Path, kid: str = "platform-1") -> None:
        self.kid = kid
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_file = folder / "platform-jwks.json"
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.key_file.write_text(json.dumps({"keys": [public | {"kid": kid, "alg": "RS256", "use": "sig"}]}))

    @property
    def setting(self) -> dict[str, Any]:
        """The entry under `callers`."""
        names = ("repository", "repository_id", "ref", "ref_protected", "fork", "sha")
        return {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_file": str(self.key_file),
            "require": {"sub": "repo:.*"},
            "facts": {name: name for name in names},
        }

    def claims(self, repository: str = "acme/app", **more: Any) -> dict[str, Any]:
        now = int(time.time())
        ids = {"acme/app": "42", "acme/app-fork": "666", "mallory/app": "667"}
        return {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": f"repo:{repository}",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": secrets.token_hex(16),
            "repository": repository,
            "repository_id": ids[repository],
            "ref": "refs/heads/main",
            "ref_protected": "true",
            "fork": "false",
            "sha": "a" * 40,
        } | more

    def token(self, repository: str = "acme/app", **more: Any) -> str:
        return self.sign(self.claims(repository, **more))

    def sign(self, claims: dict[str, Any], *, key: Any = None, algorithm: str = "RS256") -> str:
        return jwt.encode(claims, key or self.key, algorithm=algorithm, headers={"kid": self.kid})

    def public_pem(self) -> bytes:
        """What a confused verifier could take for an HMAC secret."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
