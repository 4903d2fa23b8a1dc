"""The command `orchestrator-artifact`: hash a file the job built and report its digest, and documents about it."""

from __future__ import annotations

import argparse
import hashlib
import json
import mimetypes
import os
import re
import sys
import time

from .runner_api import RefusedError, failed, post

MAX_DOCUMENT = 4 << 20
CYCLONEDX = "https://cyclonedx.org/bom"
SPDX = "https://spdx.dev/Document"
VULNERABILITIES = "https://cosign.sigstore.dev/attestation/vuln/v1"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
EPILOG = """`orchestrator-artifact attest DIGEST|FILE` reports documents about an artifact that another job built, or
that was reported before. Documents are JSON of at most 4 MiB; at the job's end the control plane signs that this job
reported them."""

Document = dict[str, object]


class DocumentError(Exception):
    """What is wrong, for the job's author."""


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    attest = words[:1] == ["attest"]
    options = read_options(words[1:] if attest else words, attest)
    path = options.subject[0]
    try:
        documents = [*map(sbom, options.sbom), *(scan(path, options.scanner) for path in options.scan)]
        documents += [(options.type, load(path)) for path in options.predicate]
        for path in options.subject:
            report_all(path, documents, options, attest)
    except (RefusedError, DocumentError, KeyError, OSError, ValueError) as error:
        return failed("orchestrator-artifact", error, path)
    return 0


def read_options(words: list[str], attest: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="orchestrator-artifact" + (" attest" if attest else ""),
        description="Report documents about an artifact, with this job's identity."
        if attest
        else "Report files this job built, by name and SHA-256 digest.",
        epilog="" if attest else EPILOG,
    )
    if attest:
        parser.add_argument("subject", nargs=1, metavar="DIGEST|FILE", help="the artifact: sha256:…, or a file to hash")
    else:
        parser.add_argument("subject", nargs="+", metavar="FILE", help="files to hash and report; their content stays")
    parser.add_argument("--sbom", action="append", default=[], metavar="FILE", help="its CycloneDX or SPDX document")
    parser.add_argument("--scan", action="append", default=[], metavar="FILE", help="a scanner's report about it")
    parser.add_argument("--scanner", help="who made the report of --scan, such as trivy")
    parser.add_argument("--predicate", action="append", default=[], metavar="FILE", help="another document about it")
    parser.add_argument("--type", help="predicate type of --predicate: a URI")
    parser.set_defaults(name=None, media_type=None)
    if not attest:
        parser.add_argument("--name", help="name to report instead of the file's own (one file only)")
        parser.add_argument("--media-type", help="media type; guessed from the name when not given")
    options = parser.parse_args(words)
    documents = options.sbom + options.scan + options.predicate
    if len(options.subject) > 1 and (options.name or documents):
        parser.error("--name and documents fit one file only")
    if bool(options.scan) != bool(options.scanner) or bool(options.predicate) != bool(options.type):
        parser.error("--scan needs --scanner, --predicate needs --type, and the other way round")
    if attest and not documents:
        parser.error("name a document with --sbom, --scan or --predicate")
    return options


def report_all(subject: str, documents: list[tuple[str, Document]], options: argparse.Namespace, attest: bool) -> None:
    """The artifact first, then what is said about it."""
    if attest and DIGEST.fullmatch(subject):
        digest, name = subject, ""
    else:
        report = describe(subject, options.name, options.media_type)
        digest, name = str(report["digest"]), str(report["name"])
        if not attest:
            post(os.environ["ORCHESTRATOR_ARTIFACTS_URL"], report)
    if not attest:
        print(f"{digest}  {name}")
    for kind, predicate in documents:
        base = os.environ["ORCHESTRATOR_ARTIFACTS_URL"].rpartition("/")[0]
        told: Document = {"digest": digest, "predicate_type": kind, "predicate": predicate}
        answer = post(base + "/attestations", told)
        print(f"{digest}  {kind} {answer.get('predicate_digest', '')}")


def load(path: str) -> Document:
    """A document: one JSON object."""
    with open(path, "rb") as file:
        data = file.read(MAX_DOCUMENT + 1)
    if len(data) > MAX_DOCUMENT:
        raise DocumentError(f"{path}: a document may have {MAX_DOCUMENT} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise DocumentError(f"{path}: not JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise DocumentError(f"{path}: not a JSON object")
    return found


def sbom(path: str) -> tuple[str, Document]:
    """A bill of materials under the predicate type of its own format."""
    found = load(path)
    if found.get("bomFormat") == "CycloneDX":
        return CYCLONEDX, found
    if "spdxVersion" in found or "@graph" in found:
        return SPDX, found
    raise DocumentError(
        f"{path}: neither CycloneDX nor SPDX in JSON; name a bill of materials as syft or trivy writes it"
    )


def scan(path: str, scanner: str) -> tuple[str, Document]:
    """A scanner's own report, wrapped as cosign's predicate for vulnerabilities is; one that is wrapped stays so."""
    found = load(path)
    if isinstance(found.get("scanner"), dict) and isinstance(found.get("metadata"), dict):
        return VULNERABILITIES, found
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    descriptor = found.get("descriptor")
    made = found.get("CreatedAt") or (descriptor.get("timestamp") if isinstance(descriptor, dict) else None)
    finished = made if isinstance(made, str) and made else now
    return VULNERABILITIES, {
        "invocation": {"uri": os.environ.get("ORCHESTRATOR_JOB_ID", ""), "event_id": "", "builder.id": ""},
        "scanner": {"uri": scanner, "version": "", "db": {"uri": "", "version": ""}, "result": found},
        "metadata": {"scanStartedOn": finished, "scanFinishedOn": finished},
    }


def describe(path: str, name: str | None, media_type: str | None) -> Document:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    own = name or os.path.basename(path)
    kind = media_type or mimetypes.guess_type(own)[0] or "application/octet-stream"
    return {"name": own, "digest": "sha256:" + digest.hexdigest(), "media_type": kind, "size_bytes": size}
