"""`orchestrator-token`: exchange the runner's token for an ID token for one audience (RFC 8693).

It is delivered into the sandbox, or the pod, as one file and runs with whatever Python 3.9+ is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:"
MAX_ANSWER = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="orchestrator-token", description="Print an ID token of this job for one audience."
    )
    parser.add_argument("--audience", required=True, help="who the token is for, as that party expects it in 'aud'")
    parser.add_argument("--json", action="store_true", help="print the whole answer (token, type, lifetime)")
    options = parser.parse_args()
    try:
        answer = exchange(options.audience)
    except urllib.error.HTTPError as error:
        print(f"orchestrator-token: {error.code} {refusal(error.read(MAX_ANSWER))}", file=sys.stderr)
        return 1
    except (OSError, KeyError, ValueError) as error:
        print(f"orchestrator-token: {error}", file=sys.stderr)
        return 2
    print(json.dumps(answer) if options.json else answer["access_token"])
    return 0


def exchange(audience: str) -> dict[str, object]:
    """One exchange with the runner API, never through a proxy."""
    with open(os.environ["ORCHESTRATOR_TOKEN_FILE"], encoding="ascii") as file:
        subject = file.read().strip()
    fields = {
        "grant_type": GRANT,
        "subject_token": subject,
        "subject_token_type": TOKEN_TYPE + "access_token",
        "audience": audience,
        "requested_token_type": TOKEN_TYPE + "id_token",
    }
    request = urllib.request.Request(
        os.environ["ORCHESTRATOR_EXCHANGE_URL"],
        data=urllib.parse.urlencode(fields).encode(),
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *trust())
    with opener.open(request, timeout=30) as response:
        answer = json.loads(response.read(MAX_ANSWER))
    if not isinstance(answer, dict) or not isinstance(answer.get("access_token"), str):
        raise ValueError("the answer holds no token")  # noqa: TRY004 -- data, not a type
    return answer


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


if __name__ == "__main__":
    sys.exit(main())
