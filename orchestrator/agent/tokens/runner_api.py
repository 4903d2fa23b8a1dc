"""The runner API, asked by a job's commands: with the runner's own token, never through a proxy, and again while one
daemon of a cluster follows the other.

Only what means the same when it comes twice may be asked here, for of a request without an answer nobody knows whether
it came: a token (one more for the same job and audience), the artifact that this job deploys (named already), a report
of an artifact or a document (on record already). Then it is asked again when

- nobody answered: no connection, one that was cut before the whole answer was there, no answer in time;
- the answer was *not now* (503), as of a daemon that starts, stops, or cannot write its journal.

Any other answer is the answer, and so is a server that is not who it should be.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException

MAX_ANSWER = 1 << 20
TIMEOUT_SECONDS = 30
PATIENCE_SECONDS = 120.0
"""How long the runner API of a cluster may be away: jobs run on while the daemon is replaced. In a sandbox they end
with it, so there is nothing to wait for."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
NOT_NOW = 503


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


def ask(made: Callable[[str], urllib.request.Request]) -> dict[str, object]:
    """The runner API's answer to a POST that may come twice; `made` makes it from the runner's own token.

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
        except (RefusedError, OSError) as error:
            wait = max(pause, _wish(error))
            if not _passes(error) or time.monotonic() + wait > until:
                raise
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def post(url: str, document: dict[str, object]) -> dict[str, object]:
    """`ask` with a JSON document."""
    body = json.dumps(document).encode()

    def request(token: str) -> urllib.request.Request:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer " + token}
        return urllib.request.Request(url, data=body, headers=headers)

    return ask(request)


def failed(command: str, error: Exception, what: str = "") -> int:
    """Say why a command of a job failed; returns its exit code: 1 for a refusal, of `what` if that is given, else 2."""
    words, code = str(error), 2
    if isinstance(error, RefusedError):
        words, code = f"{what}: {error}" if what else words, 1
    elif isinstance(error, KeyError):
        words = f"{error} is not set: this is no job's script"
    print(f"{command}: {words}", file=sys.stderr)
    return code


def credential() -> str:
    """The runner's own token, which changes while it runs."""
    with open(os.environ["ORCHESTRATOR_TOKEN_FILE"], encoding="ascii") as file:
        return file.read().strip()


def _passes(error: Exception) -> bool:
    if isinstance(error, RefusedError):
        return error.status == NOT_NOW
    # A certificate that is not who it should be is both an OSError and a ValueError; that stays so.
    return not isinstance(getattr(error, "reason", error), ValueError)


def _wish(error: Exception) -> float:
    """The seconds that it asks for, but no more than a pause: its successor may be there sooner."""
    return float(min(error.retry_after, LONGEST_PAUSE)) if isinstance(error, RefusedError) else 0.0


def _asked(request: urllib.request.Request, trusted: list[urllib.request.BaseHandler]) -> dict[str, object]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *trusted)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            body = response.read(MAX_ANSWER)
            whole = response.headers.get("Content-Length", "")
    except urllib.error.HTTPError as error:
        raise _refused(error) from None
    except HTTPException as error:
        raise OSError(f"the runner API's answer was cut: {error!r}") from None
    if whole.isdecimal() and len(body) < min(int(whole), MAX_ANSWER):
        raise OSError(f"the runner API's answer was cut after {len(body)} of {whole} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the answer is no JSON object")  # noqa: TRY004 -- data, not a type
    return document


def _refused(error: urllib.error.HTTPError) -> RefusedError:
    wait = error.headers.get("Retry-After", "")
    try:
        body = error.read(MAX_ANSWER)
    except (OSError, HTTPException):  # the status says enough
        body = b""
    return RefusedError(f"{error.code} {refusal(body)}", error.code, int(wait) if wait.isdecimal() else 0)


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
        names = ("error", "reason", "explanation", "error_description", "detail")
        words = [problem.get(name) for name in names]
        return ": ".join(str(word) for word in words if word) or str(problem.get("title") or "refused")
    except (ValueError, AttributeError):
        return "refused"
