"""GitHub's OpenID issuer: discovery, keys, and the token of each job with every documented claim."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.testing.github.model import Flavour, Job, JobState, Run
from orchestrator.testing.github.runner_job import is_protected, ref_of
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import signing_key
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

ISSUER_PATH = "/_services/token"
LIFE_SECONDS = 300
BACKDATED_SECONDS = 600


class OidcRoutes:
    """`url` begins the issuer. `rotate` signs with another key from then on; old keys stay published until `retire`."""

    def __init__(self, state: GitHubState) -> None:
        self._state = state
        self.url = ""
        self.keys = ["oidc-1"]

    @property
    def issuer(self) -> str:
        return self.url + ISSUER_PATH + self._state.options.issuer_suffix

    def endpoints(self) -> list[Endpoint]:
        table = [("GET", "/_broker/idtoken/{key}", self._token)]
        for middle in ("", "/{enterprise}"):
            at = ISSUER_PATH + middle + "/.well-known/"
            table += [("GET", at + "openid-configuration", self._discovery), ("GET", at + "jwks", self._jwks)]
        return [Endpoint(method, path, handler, Plane.OTHER) for method, path, handler in table]

    def rotate(self) -> None:
        self.keys.append(f"oidc-{len(self.keys) + 1}")

    def retire(self) -> None:
        """Publish the newest key only."""
        del self.keys[:-1]

    def token(self, job: Job, audience: str = "", **claims: Any) -> str:
        """The job's token. `claims` replaces some of them, for a token that a verifier must refuse."""
        name = self.keys[-1]
        whole = claims_of(job, audience or self.default_audience(job), self.issuer, self._state) | claims
        headers = {"kid": key_id(name), "x5t": key_id(name)}
        return jwt.encode(whole, signing_key(name), algorithm="RS256", headers=headers)

    def default_audience(self, job: Job) -> str:
        return f"{self.url}/{job.run.repository.owner.login}"

    async def _token(self, call: Call) -> Reply:
        job = self._state.jobs_by_key.get(call.place["key"])
        bearer = call.request.headers.get("Authorization", "").removeprefix("Bearer ")
        if job is None or bearer != job.token or not job.plan.id_token:
            raise ApiError(401, "The request token is not of this job.")
        if job.state is not JobState.RUNNING:
            raise ApiError(403, "The job does not run.")
        token = self.token(job, call.query("audience"))
        return Reply(200, {"count": len(token), "value": token})

    async def _discovery(self, call: Call) -> Reply:
        algorithms = ["RS256"]
        return Reply(
            200,
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/.well-known/jwks",
                "subject_types_supported": ["public", "pairwise"],
                "response_types_supported": ["id_token"],
                "id_token_signing_alg_values_supported": algorithms,
                "scopes_supported": ["openid"],
            },
        )

    async def _jwks(self, call: Call) -> Reply:
        return Reply(200, {"keys": [_jwk(name) for name in self.keys]})


def claims_of(job: Job, audience: str, issuer: str, state: GitHubState) -> dict[str, Any]:
    """All claims that GitHub documents; numbers are strings, times are not."""
    run, repository = job.run, job.run.repository
    now = int(state.clock.now())
    kind, _ = ref_of(run)
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject_of(job),
        "jti": str(uuid.uuid4()),
        "iat": now,
        "nbf": now - BACKDATED_SECONDS,
        "exp": now + LIFE_SECONDS,
        "actor": run.actor,
        "actor_id": str(run.actor_id),
        "repository": repository.full_name,
        "repository_id": str(repository.id),
        "repository_owner": repository.owner.login,
        "repository_owner_id": str(repository.owner.id),
        "repository_visibility": repository.visibility,
        "ref": run.ref,
        "ref_type": kind,
        "sha": run.sha,
        "base_ref": run.base_ref,
        "head_ref": run.head_ref,
        "event_name": run.event,
        "workflow": run.workflow,
        "workflow_ref": run.workflow_ref,
        "workflow_sha": run.sha,
        "job_workflow_ref": job.plan.job_workflow_ref or run.workflow_ref,
        "job_workflow_sha": run.sha,
        "run_id": str(run.id),
        "run_number": str(run.number),
        "run_attempt": str(job.attempt),
        "check_run_id": str(job.check_run_id),
        "runner_environment": "self-hosted",
        "enterprise": "test-enterprise",
        "enterprise_id": "1",
    }
    if state.options.flavour is Flavour.HOSTED:
        claims["ref_protected"] = str(is_protected(run)).lower()
    if job.plan.environment:
        claims["environment"] = job.plan.environment
    claims.update({f"repo_property_{name}": value for name, value in repository.properties.items()})
    return claims


def subject_of(job: Job) -> str:
    """The first rule that matches; `:` inside a value is written `%3A`."""
    run, repository = job.run, job.run.repository
    owner, name = repository.owner.login, repository.name
    whose = f"{owner}/{name}"
    if repository.immutable_subject:
        whose = f"{owner}@{repository.owner.id}/{name}@{repository.id}"
    if not repository.owner.subject_keys:
        return f"repo:{whose}:{_context(job, run)}"
    values = {"job_workflow_ref": job.plan.job_workflow_ref or run.workflow_ref, "ref": run.ref, "actor": run.actor}
    values |= {"repository": repository.full_name, "repository_owner": owner, "environment": job.plan.environment}
    parts = []
    for key in repository.owner.subject_keys:
        if key == "repo":
            parts.append(f"repo:{whose}")
        elif key == "context":
            parts.append(_context(job, run))
        else:
            parts.append(f"{key}:{_escaped(values[key])}")
    return ":".join(parts)


def _context(job: Job, run: Run) -> str:
    if job.plan.environment:
        return f"environment:{_escaped(job.plan.environment)}"
    return "pull_request" if run.event == "pull_request" else f"ref:{_escaped(run.ref)}"


def _escaped(value: str) -> str:
    return value.replace(":", "%3A")


def key_id(name: str) -> str:
    """SHA-1 of the modulus, upper case hexadecimal: the look of a certificate's thumbprint."""
    return hashlib.sha1(_modulus(signing_key(name)), usedforsecurity=False).hexdigest().upper()


def _jwk(name: str) -> dict[str, str]:
    numbers = signing_key(name).public_key().public_numbers()
    exponent = numbers.e.to_bytes(3, "big")
    return {
        "kty": "RSA",
        "alg": "RS256",
        "use": "sig",
        "kid": key_id(name),
        "x5t": key_id(name),
        "n": _base64url(_modulus(signing_key(name))),
        "e": _base64url(exponent),
    }


def _modulus(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_numbers().n.to_bytes(256, "big")


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
