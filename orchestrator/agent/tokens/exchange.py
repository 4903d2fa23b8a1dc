"""One exchange with the runner API: the runner's token for an ID token of this job, for one audience (RFC 8693)."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
MAX_ANSWER = 1 << 20
TIMEOUT_SECONDS = 30
PATIENCE_SECONDS = 120.0
"""How long the runner API of a cluster may be away: jobs run on while the daemon is replaced. In a sandbox they end
with it, so there is nothing to wait for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0


class RefusedError(Exception):
    """Somebody said no. `status` is the HTTP status; `retry_after` in seconds, 0 where none was given."""

    def __init__(self, message: str, status: int = 400, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def final(self) -> bool:
        """Whether asking again cannot help."""
        return self.status < 500 and self.status != 429


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


def credential() -> str:
    """The runner's own token, which changes while it runs."""
    with open(os.environ["ORCHESTRATOR_TOKEN_FILE"], encoding="ascii") as file:
        return file.read().strip()


def ask(made: Callable[[str], urllib.request.Request]) -> dict[str, object]:
    """The runner API's answer to a POST that may arrive twice, made with the runner's own token; never through a proxy.

    It is made anew for each try: a token may be too old by the time that somebody answers.

    Raises:
        RefusedError: it said no, and why.
        OSError, ValueError, KeyError: no usable answer, or this is no job.
    """
    trusted = trust()
    until, pause = time.monotonic() + (PATIENCE_SECONDS if trusted else 0.0), FIRST_PAUSE
    while True:
        request = made(credential())
        try:
            return _asked(request, trusted)
        except OSError as error:
            # A certificate that is not who it should be is both an OSError and a ValueError; that stays so.
            if isinstance(getattr(error, "reason", error), ValueError) or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _asked(request: urllib.request.Request, trusted: list[urllib.request.BaseHandler]) -> dict[str, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *trusted)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            document = json.loads(response.read(MAX_ANSWER))
    except urllib.error.HTTPError as error:
        wait = error.headers.get("Retry-After", "")
        said = f"{error.code} {refusal(error.read(MAX_ANSWER))}"
        raise RefusedError(said, error.code, int(wait) if wait.isdigit() else 0) from None
    except HTTPException as error:
        raise OSError(f"the exchange's answer was cut: {error!r}") from None
    if not isinstance(document, dict):
        raise ValueError("the answer is no JSON object")  # noqa: TRY004 -- data, not a type
    return document


def trust() -> list[urllib.request.BaseHandler]:
    """In a cluster the runner API speaks TLS under a CA of its own, and nobody else's word counts."""
    ca = os.environ.get("ORCHESTRATOR_CA_FILE")
    if not ca:
        return []
    import ssl  # some small Pythons have none, and a sandbox needs none

    return [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))]


def refusal(body: bytes) -> str:
    """What an OAuth error (RFC 6749 5.2), with our explanation, or a problem document (RFC 9457) says."""
    try:
        problem = json.loads(body)
        names = ("error", "reason", "explanation", "error_description", "detail", "title")
        words = [problem.get(name) for name in names]
        return ": ".join(str(word) for word in words if word) or "refused"
    except (ValueError, AttributeError):
        return "refused"
