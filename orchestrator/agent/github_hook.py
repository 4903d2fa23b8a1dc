"""`orchestrator-github-hook job-started`: what GitHub's runner runs before its one job.

Before any step it reports which job this is, with GitHub's own token for the job where its workflow grants
`id-token: write`, and waits until the job is named and policy has answered. A job that is denied gets the reasons in
its log and fails. This is no boundary: a job that goes on regardless has no identity and no egress.

It is delivered into the sandbox, or the pod, as one file and runs with whatever Python 3.9+ is there. Exit codes: 0 the
job may go on, 1 it may not, 2 called in a wrong way.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import sys
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, unquote, urlsplit

LIMIT_SECONDS = 300.0
"""How long a job waits for its name."""
ANSWER_SECONDS = 40.0
"""For one report; the runner API holds one that nobody can verify yet for 25 s."""
TOKEN_SECONDS = 10.0
TOKEN_TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_WISH = 0.5, 5.0, 30.0
MAX_ANSWER = 1 << 20
LINES = {"job_id": re.compile(r"[A-Za-z0-9._-]{1,256}"), "traceparent": re.compile(r"[0-9a-f-]{55}")}
DENIALS = {"policy_denied", "policy_undefined", "policy_error"}


class Refused(Exception):  # noqa: N818 -- a verdict on the job, not a fault
    """The job may not go on; the problem document says why."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "refused"))
        self.problem = problem


def main(arguments: list[str]) -> int:
    if arguments != ["job-started"]:
        print("usage: orchestrator-github-hook job-started", file=sys.stderr)
        return 2
    try:
        answer = until_named(time.monotonic() + LIMIT_SECONDS)
        proceed(answer)
    except Refused as refused:
        for title, text in reasons(refused):
            say("error", text, title)
        return 1
    except (OSError, ValueError, KeyError) as error:
        say("error", f"this job cannot be reported: {type(error).__name__}: {error}", "no identity for this job")
        return 1
    print(f"job {answer['job_id']}, trace {answer['traceparent'].split('-')[1]}")
    return 0


# --- the report ---


def until_named(until: float) -> dict[str, Any]:
    """The job's name here. Each report brings a token of its own: one is good for one use.

    Raises:
        Refused: the job may not go on.
        OSError: nobody could say in time.
    """
    pause, problem = FIRST_PAUSE, "it is not known yet which job this is"
    while True:
        began, wish = time.monotonic(), 0.0
        try:
            status, answer, wish = report()
        except (OSError, http.client.HTTPException) as error:
            status, answer, problem = 0, b"", str(error) or type(error).__name__
        if status == 200:
            return understood(answer)
        if status == 204:
            pause, problem = FIRST_PAUSE, "it is not known yet which job this is"
        elif status and status not in (408, 429) and status < 500:
            raise Refused(document(answer))
        elif status:
            problem = f"{status} {document(answer).get('reason', '')}"
        wait = max(pause - (time.monotonic() - began if status == 204 else 0.0), min(wish, LONGEST_WISH), 0.0)
        if time.monotonic() + wait > until:
            raise OSError(f"nothing was decided within {LIMIT_SECONDS:g} s: {problem}")
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def report() -> tuple[int, bytes, float]:
    """One report: status, body, and the seconds of Retry-After."""
    with open(os.environ["ORCHESTRATOR_TOKEN_FILE"], encoding="ascii") as file:
        credential = file.read().strip()
    names = {"run_id": "GITHUB_RUN_ID", "run_attempt": "GITHUB_RUN_ATTEMPT", "repository": "GITHUB_REPOSITORY"}
    body = {field: os.environ[variable] for field, variable in names.items()}
    token = platform_token()
    if token:
        body["token"] = token
    headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
    url = os.environ["ORCHESTRATOR_JOB_URL"]
    ca_file = os.environ.get("ORCHESTRATOR_CA_FILE", "")
    return ask("POST", url, headers, json.dumps(body).encode(), seconds=ANSWER_SECONDS, ca_file=ca_file)


def understood(answer: bytes) -> dict[str, Any]:
    """Every word of it goes into a file of lines, so each must be what it should."""
    found = document(answer)
    if not all(isinstance(found.get(word), str) and rule.fullmatch(found[word]) for word, rule in LINES.items()):
        raise ValueError("the answer is unusable")
    return found


def proceed(answer: dict[str, Any]) -> None:
    """All later steps carry the job's trace and its id."""
    with open(os.environ["GITHUB_ENV"], "a", encoding="utf-8") as file:
        file.write(f"TRACEPARENT={answer['traceparent']}\nORCHESTRATOR_JOB_ID={answer['job_id']}\n")


def document(answer: bytes) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def reasons(refused: Refused) -> list[tuple[str, str]]:
    """Title and text of each reason: policy's one by one, else the one of the problem document (RFC 9457)."""
    reason = str(refused.problem.get("reason", ""))
    title = "denied by policy" if reason in DENIALS else "no identity for this job"
    said = refused.problem.get("reasons")
    listed = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    texts = [f"{one.get('message', '')} [{one.get('code', '')}]" for one in listed]
    return [(title, text) for text in texts or [f"{refused} [{reason}]"]]


def say(kind: str, text: str, title: str) -> None:
    """A workflow command, in the escapes of GitHub's toolkit."""
    for sign, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text, title = text.replace(sign, code), title.replace(sign, code)
    title = title.replace(":", "%3A").replace(",", "%2C")
    print(f"::{kind} title={title}::{text}", flush=True)


# --- GitHub's token ---


def platform_token() -> str:
    """GitHub's OIDC token for this job and our audience; empty when the job's workflow asks for none. Without one the
    job is found by GitHub's API, so a failure here is only said."""
    url, bearer = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{word}", "") for word in ("URL", "TOKEN"))
    audience = os.environ.get("ORCHESTRATOR_AUDIENCE", "")
    if not (url and bearer and audience):
        return ""
    url += f"{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
    headers = {"Authorization": f"Bearer {bearer}", "Accept": "application/json"}
    problem = ""
    for attempt in range(TOKEN_TRIES):
        time.sleep(attempt * FIRST_PAUSE)
        try:
            status, answer, _ = ask("GET", url, headers, None, seconds=TOKEN_SECONDS, proxy=proxy_for(url))
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
            continue
        if status == 200:
            value = document(answer).get("value")
            if isinstance(value, str) and value.count(".") == 2:
                print(f"::add-mask::{value}", flush=True)
                return value
        problem = f"status {status}"
    say("warning", f"GitHub gave no token for this job: {problem}", "orchestrator")
    return ""


def proxy_for(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    direct = (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",")
    if any(host == name or host.endswith("." + name) for name in (one.strip().lstrip(".") for one in direct) if name):
        return ""
    name = f"{parts.scheme}_proxy"
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


# --- one request ---


def ask(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes | None,
    *,
    seconds: float,
    ca_file: str = "",
    proxy: str = "",
) -> tuple[int, bytes, float]:
    """Status, body, and the seconds of Retry-After. No redirect is followed: none of these places sends any."""
    parts = urlsplit(url)
    secure, host = parts.scheme == "https", parts.hostname or ""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    through = urlsplit(proxy) if proxy else None
    at = (through.hostname or "", through.port or 80) if through else (host, parts.port or (443 if secure else 80))
    credential = proxy_credential(through.username, through.password) if through else {}
    if secure:
        import ssl  # some small Pythons have none, and a sandbox needs none for us

        trust = ssl.create_default_context(cafile=ca_file or None)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(*at, timeout=seconds, context=trust)
        if through:
            connection.set_tunnel(host, parts.port or 443, credential)
    else:
        connection = http.client.HTTPConnection(*at, timeout=seconds)
        if through:
            target, headers = url, {**headers, **credential, "Host": parts.netloc}
    with contextlib.closing(connection):
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER + 1)
    if len(answer) > MAX_ANSWER:
        raise OSError("the answer is too long")
    wish = response.getheader("Retry-After") or ""
    return response.status, answer, float(wish) if wish.isdecimal() and len(wish) < 6 else 0.0


def proxy_credential(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Proxy-Authorization": "Basic " + b64encode(pair).decode("ascii")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
