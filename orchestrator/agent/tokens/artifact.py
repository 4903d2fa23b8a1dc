"""`artifact`: say what this job deploys, before it asks for a token that is bound to it."""

from __future__ import annotations

import argparse
import hashlib
import os
import re

from .runner_api import post

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def artifact(arguments: list[str]) -> str:
    made = argparse.ArgumentParser(
        prog="orchestrator-token artifact",
        description="Say what this job deploys: one artifact, once. Its tokens are bound to it from then on.",
        epilog="The other commands do it with --artifact FILE|DIGEST before they ask.",
        allow_abbrev=False,
    )
    made.add_argument("artifact", metavar="FILE|DIGEST", help="a file to hash, or sha256:…")
    return name_artifact(made.parse_args(arguments).artifact)


def name_artifact(given: str) -> str:
    """The digest that this job deploys from now on: the one given, or that of the file.

    Raises:
        RefusedError: it deploys another one already.
        OSError, ValueError, KeyError: no such file, no usable answer, or this is no job.
    """
    digest = digest_of(given)
    url = os.environ["ORCHESTRATOR_EXCHANGE_URL"].rpartition("/")[0] + "/deployment"
    post(url, {"artifact_digest": digest})
    return digest


def digest_of(given: str) -> str:
    if given.startswith("sha256:"):
        if not DIGEST.fullmatch(given):
            raise ValueError(
                f"{given[:80]!r} is no digest: sha256: and 64 lower-case hexadecimal digits (a file: ./NAME)"
            )
        return given
    digest = hashlib.sha256()
    with open(given, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
