"""A CI platform whose tokens dispatch jobs: the facts about a job are what it says."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

ISSUER = "https://ci.example"
FACTS = ("repository", "repository_id", "repository_owner_id", "ref", "ref_protected")


class Platform:
    """Its key set goes into a file in `folder`. `claims` are said of every job unless `token` says otherwise."""

    def __init__(self, folder: Path, audience: str) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "ci", "alg": "RS256", "use": "sig"})
        self.audience = audience
        self.file = folder / "ci-jwks.json"
        self.file.write_text(json.dumps(KeySet([self.key]).as_dict(private=False)))

    @property
    def settings(self) -> dict[str, object]:
        """An entry of `callers`."""
        return {
            "issuer": ISSUER,
            "audience": self.audience,
            "jwks_file": str(self.file),
            "require": {"repository_owner_id": "1"},
            "facts": {name: name for name in FACTS},
        }

    def token(self, **claims: str) -> str:
        now = int(time.time())
        said = {
            "iss": ISSUER, "aud": self.audience, "iat": now, "nbf": now, "exp": now + 300, "jti": secrets.token_hex(8),
            "sub": "repo:acme/shop", "repository": "acme/shop", "repository_id": "42", "repository_owner_id": "1",
            "ref": "refs/heads/release/1.4", "ref_protected": "true",
        }  # fmt: skip
        return jwt.encode({"alg": "RS256", "kid": "ci"}, said | claims, self.key)
