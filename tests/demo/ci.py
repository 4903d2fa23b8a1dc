"""The demo's CI platform: an OIDC issuer whose tokens dispatch the pipeline, one token for each job."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from api import Api
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER, AUDIENCE = "https://ci.demo.example", "https://runners.demo.example"
FACTS = ("repository", "repository_id", "ref", "ref_protected", "sha", "actor")


class Platform:
    """Knows its repository's name and id, and the commit that its pipeline runs for."""

    def __init__(self, folder: Path, repository: str, repository_id: int, commit: str, actor: str) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._facts = {
            "repository": repository,
            "repository_id": str(repository_id),
            "ref": "refs/heads/main",
            "ref_protected": "true",
            "sha": commit,
            "actor": actor,
        }
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.key_file = folder / "ci-keys.json"
        self.key_file.write_text(json.dumps({"keys": [public | {"kid": "1", "alg": "RS256", "use": "sig"}]}))

    @property
    def setting(self) -> dict[str, Any]:
        """The entry of `callers`."""
        return {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_file": str(self.key_file),
            "require": {"repository_id": self._facts["repository_id"]},
            "facts": {name: name for name in FACTS},
        }

    def token(self) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 300, "jti": secrets.token_hex(16)}
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"repo:{self._facts['repository']}:main", **times}
        return jwt.encode(claims | self._facts, self._key, algorithm="RS256", headers={"kid": "1"})


class PlatformApi(Api):
    """Dispatches as the CI platform does; everything else is asked as the operator."""

    platform: Platform
    dispatched = 0

    def _headers(self, method: str = "GET", path: str = "") -> dict[str, str]:
        if method == "POST" and path == "/v1/jobs":
            return {"Authorization": f"Bearer {self.platform.token()}"}
        return super()._headers(method, path)
