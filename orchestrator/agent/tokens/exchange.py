"""One exchange with the runner API: the runner's token for an ID token of this job, for one audience (RFC 8693)."""

from __future__ import annotations

import os
import urllib.parse
import urllib.request

from .runner_api import ask

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"


class Answer:
    """What the exchange gave. `role` is the one the token is for, "" when no trust map names roles."""

    def __init__(self, document: dict[str, object], asked_role: str = "") -> None:
        token, life = document.get("access_token"), document.get("expires_in", 0)
        if not isinstance(token, str) or not token:
            raise ValueError("the answer holds no token")
        if not isinstance(life, int) or life < 0:
            raise ValueError("the answer's expires_in is no number of seconds")
        self.document = document
        self.token = token
        self.expires_in = life
        self.role = str(document.get("scope") or asked_role)


def exchange(audience: str, role: str = "") -> Answer:
    """Ask for a token; never through a proxy.

    `role` is sent as the one `scope` value; the installation's trust map must list it for this job.

    Raises:
        RefusedError: the exchange said no, and why.
        OSError, ValueError, KeyError: no usable answer, or this is no job.
    """
    fields = {
        "grant_type": GRANT,
        "subject_token_type": TOKEN_TYPE + "access_token",
        "audience": audience,
        "requested_token_type": TOKEN_TYPE + "id_token",
    }
    if role:
        fields["scope"] = role

    def request(token: str) -> urllib.request.Request:
        body = urllib.parse.urlencode({**fields, "subject_token": token}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return urllib.request.Request(os.environ["ORCHESTRATOR_EXCHANGE_URL"], data=body, headers=headers)

    return Answer(ask(request), role)
