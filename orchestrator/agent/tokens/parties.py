"""Other parties that give something of their own for a token: Vault, an RFC 8693 endpoint, a Kubernetes API server."""

from __future__ import annotations

import json
import re
import time

from . import outside
from .exchange import GRANT, TOKEN_TYPE, Answer
from .runner_api import RefusedError, refusal

_PATH = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")


def vault_login(place: outside.Place, mount: str, namespace: str, role: str, token: str) -> dict[str, object]:
    """The answer of Vault's or OpenBao's JWT login (API documentation, `auth/jwt`).

    Raises:
        RefusedError: it said no.
        OSError, ValueError: no usable answer.
    """
    if not _PATH.fullmatch(mount):
        raise ValueError(f"{mount!r} is no path of an auth method")
    headers = {"Content-Type": "application/json", "Accept": "application/json", "X-Vault-Request": "true"}
    if namespace:
        headers["X-Vault-Namespace"] = namespace
    body = json.dumps({"role": role, "jwt": token}).encode()
    try:
        found = _object(outside.post(place.below(f"/v1/auth/{mount}/login"), body, headers), place)
    except outside.PartyError as error:
        raise RefusedError(f"{error}: {_vault_errors(error.body)}", error.status) from None
    auth = found.get("auth")
    if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
        raise ValueError(f"the answer of {outside.host_of(place.url)} holds no client token")  # noqa: TRY004 -- data
    return found


def _vault_errors(body: bytes) -> str:
    try:
        return "; ".join(str(word) for word in json.loads(body)["errors"]) or "refused"
    except (ValueError, KeyError, TypeError):
        return "refused"


def exchange_there(place: outside.Place, token: str, wanted: list[tuple[str, str]]) -> dict[str, object]:
    """The answer of another party's token exchange (RFC 8693 section 2) for our token as subject token.

    `wanted` are the fields that say what for: audience, resource, scope, client_id, requested_token_type.

    Raises:
        RefusedError: it said no.
        OSError, ValueError: no usable answer.
    """
    fields = [
        ("grant_type", GRANT),
        ("subject_token", token),
        ("subject_token_type", TOKEN_TYPE + "jwt"),
        *((name, value) for name, value in wanted if value),
    ]
    try:
        found = _object(outside.form(place, fields), place)
    except outside.PartyError as error:
        raise RefusedError(f"{error}: {refusal(error.body)}", error.status) from None
    if not isinstance(found.get("access_token"), str):
        raise ValueError(f"the answer of {outside.host_of(place.url)} holds no token")  # noqa: TRY004 -- data
    return found


def _object(answer: bytes, place: outside.Place) -> dict[str, object]:
    found = json.loads(answer)
    if not isinstance(found, dict):
        raise ValueError(f"the answer of {outside.host_of(place.url)} is no JSON object")  # noqa: TRY004 -- data
    return found


def exec_credential(answer: Answer) -> str:
    """What a kubectl credential plugin prints (`client.authentication.k8s.io/v1`)."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + answer.expires_in))
    status = {"token": answer.token, "expirationTimestamp": end}
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})
