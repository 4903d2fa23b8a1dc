"""`orchestrator-artifact`: hash a file the job built and report its digest.

It is delivered into the sandbox, or the pod, as one file and runs with whatever Python 3.9+ is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mimetypes
import os
import sys
import urllib.error
import urllib.request

MAX_ANSWER = 1 << 20


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="orchestrator-artifact", description="Report files this job built, by name and SHA-256 digest."
    )
    parser.add_argument("file", nargs="+", help="files to hash and report; their content stays here")
    parser.add_argument("--name", help="name to report instead of the file's own (one file only)")
    parser.add_argument("--media-type", help="media type; guessed from the name when not given")
    options = parser.parse_args()
    if options.name and len(options.file) > 1:
        parser.error("--name fits one file only")
    for path in options.file:
        try:
            report = describe(path, options.name, options.media_type)
            send(report)
        except urllib.error.HTTPError as error:
            print(f"orchestrator-artifact: {path}: {error.code} {refusal(error.read(MAX_ANSWER))}", file=sys.stderr)
            return 1
        except (OSError, KeyError, ValueError) as error:
            print(f"orchestrator-artifact: {path}: {error}", file=sys.stderr)
            return 2
        print(f"{report['digest']}  {report['name']}")
    return 0


def describe(path: str, name: str | None, media_type: str | None) -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    own = name or os.path.basename(path)
    kind = media_type or mimetypes.guess_type(own)[0] or "application/octet-stream"
    return {"name": own, "digest": "sha256:" + digest.hexdigest(), "media_type": kind, "size_bytes": size}


def send(report: dict[str, object]) -> None:
    with open(os.environ["ORCHESTRATOR_TOKEN_FILE"], encoding="ascii") as file:
        token = file.read().strip()
    request = urllib.request.Request(
        os.environ["ORCHESTRATOR_ARTIFACTS_URL"],
        data=json.dumps(report).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer " + token},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *trust())
    with opener.open(request, timeout=30):
        return


def trust() -> list[urllib.request.BaseHandler]:
    """In a cluster the runner API speaks TLS under a CA of its own, and nobody else's word counts."""
    ca = os.environ.get("ORCHESTRATOR_CA_FILE")
    if not ca:
        return []
    import ssl  # some small Pythons have none, and a sandbox needs none

    return [urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca))]


def refusal(body: bytes) -> str:
    """What a problem document (RFC 9457) says."""
    try:
        problem = json.loads(body)
        return ": ".join(str(problem[word]) for word in ("reason", "detail") if problem.get(word)) or "refused"
    except (ValueError, AttributeError):
        return "refused"


if __name__ == "__main__":
    sys.exit(main())
