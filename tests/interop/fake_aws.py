"""AWS STS: AssumeRoleWithWebIdentity and GetCallerIdentity, as its API reference and the IAM user guide have them."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from relying_party import RejectedError, RelyingParty

from orchestrator.evidence.audit.sigv4 import Credentials, Request, Scope, authorization

SLACK_SECONDS = 300
"""STS takes tokens up to five minutes after their end."""
TAGS = "https://aws.amazon.com/tags"
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512")
XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"


class AwsError(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


REASONS = {
    "expired": AwsError("ExpiredTokenException", "Token expired"),
    "unreachable": AwsError("IDPCommunicationError", "Couldn't retrieve verification key from your identity provider"),
    "audience": AwsError("InvalidIdentityToken", "Incorrect token audience"),
    "issuer": AwsError("InvalidIdentityToken", "No OpenIDConnect provider found in your account for the issuer"),
}
INVALID = AwsError("InvalidIdentityToken", "The ID Token provided is not a valid JWT")


@dataclass
class Session:
    role: str
    name: str
    credentials: Credentials
    ends_at: float
    tags: dict[str, str]


@dataclass
class FakeAws:
    """One account. `providers` are issuer URL to client ids; `roles` ARN to (trust policy, MaxSessionDuration)."""

    party: RelyingParty
    account: str = "123456789012"
    providers: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[str, tuple[dict[str, Any], int]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    busy: int = 0
    """So many calls are throttled from now on."""

    def add_provider(self, issuer: str, audiences: list[str]) -> None:
        parts = urlsplit(issuer)
        assert (parts.scheme, parts.port, parts.query) == ("https", None, ""), "AWS takes no such URL"
        assert len(audiences) <= 100
        assert all(len(one) <= 255 for one in audiences)
        self.providers[issuer] = audiences

    def add_role(self, arn: str, policy: dict[str, Any], longest: int = 3600) -> None:
        assert 3600 <= longest <= 43200
        self.roles[arn] = (policy, longest)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        form = {name: str(value) for name, value in (await request.post()).items()}
        try:
            if self.busy:
                self.busy -= 1
                raise AwsError("Throttling", "Rate exceeded")
            if form.get("Action") == "AssumeRoleWithWebIdentity":
                return self._given(await self._assume(form))
            if form.get("Action") == "GetCallerIdentity":
                return self._identity(self._signed(request, body))
            raise AwsError("InvalidAction", "no such action")
        except AwsError as error:
            detail = f"<Type>Sender</Type><Code>{error.code}</Code><Message>{error}</Message>"
            text = f'<ErrorResponse xmlns="{XMLNS}"><Error>{detail}</Error><RequestId>r</RequestId></ErrorResponse>'
            return web.Response(status=error.status, text=text, content_type="text/xml")

    async def _assume(self, form: dict[str, str]) -> Session:
        arn, token = form.get("RoleArn", ""), form.get("WebIdentityToken", "")
        seconds = int(form.get("DurationSeconds", "3600"))
        if not 20 <= len(arn) <= 2048 or not re.fullmatch(
            r"[\w+=,.@-]{2,64}", form.get("RoleSessionName", ""), re.ASCII
        ):
            raise AwsError("ValidationError", "RoleArn or RoleSessionName")
        if not 4 <= len(token) <= 20000 or not 900 <= seconds <= 43200:
            raise AwsError("ValidationError", "WebIdentityToken or DurationSeconds")
        claims = await self._claims(token)
        policy, longest = self.roles.get(arn, ({}, 0))
        tags = self._tags(claims)
        if not policy or not self._trusts(policy, claims, tags):
            raise AwsError("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        if seconds > longest:
            raise AwsError("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration")
        credentials = Credentials(
            "ASIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30), secrets.token_hex(64)
        )
        session = Session(arn, form["RoleSessionName"], credentials, time.time() + seconds, tags)
        self.sessions[credentials.access_key] = session
        return session

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            issuer = str(self.party.read(token)[1].get("iss"))
            if issuer not in self.providers:
                raise RejectedError("issuer")
            return await self.party.verify(
                token, issuer=issuer, audiences=self.providers[issuer], algorithms=ALGORITHMS, slack=SLACK_SECONDS
            )
        except RejectedError as rejected:
            raise REASONS.get(rejected.why, INVALID) from None

    def _tags(self, claims: dict[str, Any]) -> dict[str, str]:
        given = claims.get(TAGS, {}).get("principal_tags", {})
        tags = {key: values[0] for key, values in given.items()}
        legal = re.compile(r"[\w _.:/=+@-]*")
        if len(tags) > 50 or any(
            len(key) > 128 or len(value) > 256 or not legal.fullmatch(key + value) for key, value in tags.items()
        ):
            raise INVALID
        return tags

    def _trusts(self, policy: dict[str, Any], claims: dict[str, Any], tags: dict[str, str]) -> bool:
        host = str(claims["iss"]).removeprefix("https://")
        context = {f"{host}:{name}": str(claims[name]) for name in ("sub", "aud", "amr") if name in claims}
        context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        needed = {"sts:AssumeRoleWithWebIdentity", *(["sts:TagSession"] if tags else [])}
        allowed: set[str] = set()
        for statement in policy["Statement"]:
            principal = statement["Principal"]["Federated"] == f"arn:aws:iam::{self.account}:oidc-provider/{host}"
            if statement["Effect"] == "Allow" and principal and _holds(statement.get("Condition", {}), context):
                actions = statement["Action"]
                allowed |= {actions} if isinstance(actions, str) else set(actions)
        return needed <= allowed

    def _signed(self, request: web.Request, body: bytes) -> Session:
        """Whose signature this is (Signature Version 4)."""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/\d{8}/([\w-]+)/sts/aws4_request, SignedHeaders=([\w;-]+), "
            r"Signature=\w+",
            request.headers.get("Authorization", ""),
        )
        session = self.sessions.get(found[1]) if found else None
        if found is None or session is None or session.ends_at < time.time():
            raise AwsError("InvalidClientTokenId", "The security token included in the request is invalid", 403)
        headers = {name: request.headers[name] for name in found[3].split(";")}
        at = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        signed = Request("POST", "/", headers, body)
        wanted = authorization(signed, session.credentials, Scope(found[2], "sts"), at)
        token = request.headers.get("X-Amz-Security-Token")
        if wanted != request.headers["Authorization"] or token != session.credentials.session_token:
            raise AwsError("SignatureDoesNotMatch", "The request signature we calculated does not match", 403)
        return session

    def _given(self, session: Session) -> web.Response:
        end = datetime.fromtimestamp(session.ends_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = (
            f'<AssumeRoleWithWebIdentityResponse xmlns="{XMLNS}"><AssumeRoleWithWebIdentityResult><Credentials>'
            f"<AccessKeyId>{session.credentials.access_key}</AccessKeyId>"
            f"<SecretAccessKey>{session.credentials.secret_key}</SecretAccessKey>"
            f"<SessionToken>{session.credentials.session_token}</SessionToken><Expiration>{end}</Expiration>"
            f"</Credentials><AssumedRoleUser><Arn>{self._arn(session)}</Arn><AssumedRoleId>AROA:x</AssumedRoleId>"
            "</AssumedRoleUser></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        return web.Response(text=text, content_type="text/xml")

    def _identity(self, session: Session) -> web.Response:
        text = (
            f'<GetCallerIdentityResponse xmlns="{XMLNS}"><GetCallerIdentityResult><Arn>{self._arn(session)}</Arn>'
            f"<UserId>AROA:x</UserId><Account>{self.account}</Account></GetCallerIdentityResult>"
            "</GetCallerIdentityResponse>"
        )
        return web.Response(text=text, content_type="text/xml")

    def _arn(self, session: Session) -> str:
        return f"arn:aws:sts::{self.account}:assumed-role/{session.role.rpartition('/')[2]}/{session.name}"


def _holds(conditions: dict[str, dict[str, Any]], context: dict[str, str]) -> bool:
    """All operators and all keys; of a key's values any. A key that is not there fulfils none."""
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            found = context.get(key)
            if found is None:
                return False
            like = {"StringEquals": str.__eq__, "StringLike": lambda text, glob: fnmatchcase(text, glob)}[operator]
            if not any(like(found, value) for value in values):
                return False
    return True
