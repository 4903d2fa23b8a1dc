"""AWS: session credentials for a token, by `AssumeRoleWithWebIdentity` (AWS STS API reference, version 2011-06-15)."""

from __future__ import annotations

import json
import os
import re
import time
from hashlib import sha256

from . import outside
from .runner_api import RefusedError

AUDIENCE = "sts.amazonaws.com"
SHORTEST_SESSION, LONGEST_SESSION = 900, 43200
TRIES = 3
TRY_AGAIN_CODES = frozenset({"IDPCommunicationError", "Throttling", "ThrottlingException", "ServiceUnavailable"})
"""AWS could not reach our key set in time, or has too much to do."""

_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_REGION = re.compile(r"[a-z]{2,8}(-[a-z]{2,12}){1,3}-[0-9]{1,2}")


def check_role(role: str) -> str:
    """`RoleArn`: 20 to 2048 characters. SeaweedFS and others leave the account out."""
    if not role.startswith("arn:") or ":role/" not in role or not 20 <= len(role) <= 2048 or not role.isprintable():
        raise ValueError(f"{role!r} is no role; it looks like arn:aws:iam::123456789012:role/NAME")
    return role


def session_name(job_id: str) -> str:
    """`RoleSessionName`, by which CloudTrail names the session: the job's id, with what AWS does not take replaced.

    A changed one ends in a hash, so that two jobs never share a name.
    """
    if _SESSION_NAME.fullmatch(job_id):
        return job_id
    clean = re.sub(r"[^\w+=,.@-]", "-", job_id, flags=re.ASCII)
    return f"{clean[:51]}-{sha256(job_id.encode()).hexdigest()[:12]}"


def endpoint(region: str) -> str:
    """The regional endpoint, or what the environment says in its place, as AWS's own programs read it."""
    for name in ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name]
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    if not region:
        return "https://sts.amazonaws.com"
    if not _REGION.fullmatch(region):
        raise ValueError(f"{region!r} is no region; it looks like eu-central-1")
    return f"https://sts.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


def assume(place: outside.Place, token: str, role: str, name: str, seconds: int) -> dict[str, str]:
    """Credentials by the names of the answer: AccessKeyId, SecretAccessKey, SessionToken, Expiration.

    Raises:
        RefusedError: STS said no.
        OSError, ValueError: no usable answer.
    """
    if not SHORTEST_SESSION <= seconds <= LONGEST_SESSION:
        raise ValueError(f"a session lives {SHORTEST_SESSION} to {LONGEST_SESSION} seconds, not {seconds}")
    fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", check_role(role)),
        ("RoleSessionName", name),
        ("DurationSeconds", str(seconds)),
        ("WebIdentityToken", token),
    ]
    for attempt in range(TRIES):
        try:
            return credentials(outside.form(place, fields, accept="text/xml"))
        except outside.PartyError as error:
            code, message = reason(error.body)
            if attempt + 1 < TRIES and (error.status >= 500 or code in TRY_AGAIN_CODES):
                time.sleep(1 + attempt)
                continue
            raise RefusedError(f"{error}: {code}: {message}{hint(code)}", error.status) from None
    raise AssertionError("unreachable")


def hint(code: str) -> str:
    if code == "AccessDenied":
        return "\n  fix: compare the role's trust policy with what `orchestrator trust recipe` prints for this grant"
    if code == "InvalidIdentityToken":
        return "\n  fix: compare the account's OIDC provider with our issuer URL and with the token's audience"
    return ""


def credentials(answer: bytes) -> dict[str, str]:
    found = texts(answer)
    names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
    if not all(found.get(name) for name in names):
        raise ValueError("the answer of STS holds no credentials")
    return {name: found[name] for name in names}


def reason(body: bytes) -> tuple[str, str]:
    """Code and message of an error answer."""
    try:
        found = texts(body)
    except ValueError:
        return "error", "without an explanation"
    return found.get("Code", "error"), found.get("Message", "").strip() or "without an explanation"


def texts(document: bytes) -> dict[str, str]:
    """Text of each element by its name without namespace. A document type, where XML keeps its bombs, is refused."""
    from xml.etree import ElementTree as ET

    if b"<!" in document:
        raise ValueError("the answer of STS has a document type")
    try:
        root = ET.fromstring(document)
    except ET.ParseError:
        raise ValueError("the answer of STS is no XML") from None
    return {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}


def process_document(found: dict[str, str]) -> str:
    """The answer of a `credential_process` (AWS SDKs and Tools reference guide)."""
    return json.dumps({"Version": 1, **found})
