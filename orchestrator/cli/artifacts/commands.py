"""`orchestrator artifacts`: what is known of an artifact, who signed what about it, and more of it from others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from orchestrator.cli.session import client_of, examples

DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
LIST_EXAMPLES = ("orchestrator artifacts list", "orchestrator artifacts list --limit 5 --json")
SHOW_EXAMPLES = (f"orchestrator artifacts show {DIGEST}", "orchestrator artifacts show ./app.whl --json")
FETCH_EXAMPLES = (
    f"orchestrator artifacts fetch {DIGEST} {DIGEST} > bundle.json",
    "orchestrator artifacts fetch ./app.whl --type https://cyclonedx.org/bom > bundle.json",
)
UPLOAD_EXAMPLES = (
    "orchestrator artifacts upload ./app.whl app.sigstore.json",
    f"orchestrator artifacts upload {DIGEST} provenance.json sbom.json",
)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_BYTES = 6 << 20
_SUBJECT = "The artifact: its digest, or a file whose digest is taken."

Subject = Annotated[str, typer.Argument(metavar="DIGEST|FILE", help=_SUBJECT)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]

app = typer.Typer(help="What is known of artifacts, and who signed it.", no_args_is_help=True)


@app.command("list", epilog=examples(LIST_EXAMPLES))
def list_artifacts(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """List artifacts about which something was signed, the newest word first. For operators."""
    from orchestrator.cli import output

    found = client_of(context).read("/v1/artifacts", {"limit": str(limit)})
    if json:
        output.print_json(found)
        return
    for digest in found["artifacts"]:
        output.say(str(digest))
    if not found["artifacts"]:
        output.note("nothing was signed about any artifact")


@app.command("show", epilog=examples(SHOW_EXAMPLES))
def show(context: typer.Context, subject: Subject, json: AsJson = False) -> None:
    """Show what is proven about an artifact now, and of each attestation what it counts for, or why it does not."""
    from orchestrator.cli import output
    from orchestrator.cli.render.artifact_view import artifact_detail

    found = client_of(context).read(_path(digest_of(subject)))
    if json:
        output.print_json(found)
    else:
        output.show(artifact_detail(found))


@app.command("fetch", epilog=examples(FETCH_EXAMPLES))
def fetch(
    context: typer.Context,
    subject: Subject,
    attestation: Annotated[
        str | None, typer.Argument(metavar="[ATTESTATION]", help="Its id, as `artifacts show` has it.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="Instead of an id: the predicate type, if only one counts.")
    ] = None,
) -> None:
    """Print one attestation as a Sigstore bundle, which `cosign verify-blob-attestation` and others read."""
    from orchestrator.cli import output
    from orchestrator.cli.exits import UsageError

    client, digest = client_of(context), digest_of(subject)
    if (attestation is None) is (kind is None):
        raise UsageError("name an attestation by its id or by --type", fix="`orchestrator artifacts show` lists both")
    chosen = attestation or _only(client.read(_path(digest))["attestations"], str(kind))
    output.say(client.read_text(f"{_path(digest)}/attestations/{quote(chosen, safe='')}").rstrip("\n"))


@app.command("upload", epilog=examples(UPLOAD_EXAMPLES))
def upload(
    context: typer.Context,
    subject: Subject,
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE…", help="Sigstore bundles or DSSE envelopes.")],
    json: AsJson = False,
) -> None:
    """Add what others signed about an artifact. It is kept; it counts if a signer of the settings made it."""
    from orchestrator.cli import output
    from orchestrator.cli.render import plain

    client, digest = client_of(context), digest_of(subject)
    for path in bundles:
        done = client.send(f"{_path(digest)}/attestations", _read_object(path))
        if json:
            output.print_json(done)
            continue
        worth = ", ".join(done["counts_for"])
        verdict = f"counts as {worth}" if worth else f"counts for nothing: {done['reason'] or 'no such claim'}"
        output.say(f"{plain(done['id'])}  {plain(done['predicate_type'])}  {plain(verdict)}")


def digest_of(subject: str) -> str:
    """The digest that a command's argument is or names.

    Raises:
        UsageError: neither a digest nor a file that can be read.
    """
    import hashlib

    from orchestrator.cli.exits import UsageError

    if _DIGEST.fullmatch(subject):
        return subject
    try:
        with Path(subject).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError as error:
        raise UsageError(
            f"{subject} is no digest, and cannot be read as a file: {error.strerror}",
            fix="give sha256: and 64 hexadecimal digits, or the path of the artifact",
        ) from None


def _path(digest: str) -> str:
    return f"/v1/artifacts/{quote(digest, safe='')}"


def _only(attestations: list[dict[str, object]], kind: str) -> str:
    from orchestrator.cli.exits import CommandError

    # A verification summary counts for no demand on the artifact: that a known signer signed it is all there is to it.
    fitting = [
        str(one["id"])
        for one in attestations
        if one["predicate_type"] == kind and (one["counts_for"] or (one["signers"] and not one["reason"]))
    ]
    if len(fitting) != 1:
        raise CommandError(
            f"{len(fitting)} attestations of this type are by a known signer and in order, not one",
            fix="`orchestrator artifacts show` has their ids",
        )
    return fitting[0]


def _read_object(path: Path) -> dict[str, object]:
    import json

    from orchestrator.cli.exits import UsageError

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        found = json.loads(data) if len(data) <= _MAX_BYTES else None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path and its permissions") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            f"{path} is no JSON object of at most {_MAX_BYTES} bytes",
            fix="give a Sigstore bundle or a DSSE envelope, as `cosign sign-blob --bundle` writes it",
        )
    return found
