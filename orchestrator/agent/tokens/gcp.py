"""Google Cloud: external-account credentials (AIP-4117) that make Google's libraries ask us by themselves."""

from __future__ import annotations

import json
import re
import sys
import time

from .exchange import TOKEN_TYPE, Answer
from .runner_api import RefusedError

ALLOWED = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
TIMEOUT_MILLIS = 30000
_PROVIDER = re.compile(
    r"projects/[0-9]+/locations/global/workloadIdentityPools/[a-z][a-z0-9-]{2,30}[a-z0-9]/providers/[a-z0-9-]{4,32}"
)
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9-]*@[a-z0-9.-]+\.gserviceaccount\.com")
_WORD = re.compile(r"[!-~]+")


def check_provider(name: str) -> str:
    """The provider's resource name, given with or without `//iam.googleapis.com/`."""
    short = name
    for prefix in ("https:", "//iam.googleapis.com/"):
        short = short.removeprefix(prefix)
    if not _PROVIDER.fullmatch(short):
        raise ValueError(
            f"{name!r} is no provider; it looks like "
            "projects/123456789012/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
        )
    return short


def audience_of(provider: str) -> str:
    """The audience that a provider without allowed audiences of its own expects."""
    return f"https://iam.googleapis.com/{provider}"


def configuration(
    provider: str, account: str, source: dict[str, object], session_seconds: int = 0
) -> dict[str, object]:
    """The document that GOOGLE_APPLICATION_CREDENTIALS points to."""
    found: dict[str, object] = {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{provider}",
        "subject_token_type": TOKEN_TYPE + "jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
    }
    if account:
        if not _ACCOUNT.fullmatch(account):
            raise ValueError(f"{account!r} is no service account; it looks like NAME@PROJECT.iam.gserviceaccount.com")
        found["service_account_impersonation_url"] = (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:generateAccessToken"
        )
    if session_seconds:
        if not account or not 600 <= session_seconds <= 43200:
            raise ValueError("--session-seconds are 600 to 43200, and of a service account's token only")
        found["service_account_impersonation"] = {"token_lifetime_seconds": session_seconds}
    return found


def executable(command: list[str]) -> dict[str, object]:
    """A credential source that runs `command`, which the libraries split at blanks."""
    if not all(map(_WORD.fullmatch, command)):
        raise ValueError("a blank in the command's path, audience or role: use --token-file")
    return {"executable": {"command": " ".join(command), "timeout_millis": TIMEOUT_MILLIS}}


def this_command(audience: str, role: str) -> list[str]:
    return [sys.argv[0], "gcp-answer", "--audience", audience, *(["--role", role] if role else [])]


def good_answer(answer: Answer) -> str:
    """What an executable source prints: version 1 of its answer."""
    return json.dumps(
        {
            "version": 1,
            "success": True,
            "token_type": TOKEN_TYPE + "jwt",
            "id_token": answer.token,
            "expiration_time": int(time.time()) + answer.expires_in,
        }
    )


def bad_answer(error: Exception) -> str:
    code = str(error.status) if isinstance(error, RefusedError) else "500"
    return json.dumps({"version": 1, "success": False, "code": code, "message": str(error)})
