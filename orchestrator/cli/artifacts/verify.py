"""`orchestrator verify`: what an artifact is, from which source, by which system, under which policy."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.evidence.attestations.keys import PublicKey
    from orchestrator.evidence.attestations.verifying import Demands

EXAMPLES = (
    "orchestrator verify app.whl",
    "orchestrator verify app.whl --key evidence.pub provenance.json signature.json sbom.json",
    "orchestrator verify sha256:… --signer scan-team=scan.pub --type scan --scanner trivy scan.json",
    "orchestrator verify app.whl --builder https://ci.example.com/builders/kubernetes/runc/protected/v1=3 --level 3",
)

_MOST_ATTESTATIONS: Final = 256
_SIGNER: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})=(.+)")
_BUILDER: Final = re.compile(r"(.+?)(?:=([0-3]))?")


Artifact = Annotated[str, typer.Argument(metavar="FILE|DIGEST", help="The artifact, or its digest (`sha256:…`).")]
Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[BUNDLE]...", help="Bundles or envelopes. Default: all that the daemon has."),
]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Public evidence key (PEM) of the orchestrator. Default: what the daemon gives."),
]
SignerKeys = Annotated[
    list[str] | None,
    typer.Option("--signer", metavar="NAME=FILE", help="Somebody else's public key (PEM). Repeatable."),
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        help="What there must be: signature, sbom, provenance, scan, summary. Repeatable. "
        "Default: signature, sbom and provenance, which are three different things.",
    ),
]
Builders = Annotated[
    list[str] | None,
    typer.Option("--builder", metavar="ID[=LEVEL]", help="Exact id of a builder, and its SLSA level. Repeatable."),
]
Environment = Annotated[
    str, typer.Option("--environment", help="Where a verification summary must say that it may go.")
]


def verify(
    context: typer.Context,
    artifact: Artifact,
    bundles: Files = None,
    key: Keys = None,
    signer: SignerKeys = None,
    kind: Kinds = None,
    builder: Builders = None,
    level: Annotated[int, typer.Option("--level", min=0, max=3, help="Least SLSA Build level.")] = 0,
    source: Annotated[str, typer.Option("--source", help="Exact repository, as provenance names it.")] = "",
    commit: Annotated[str, typer.Option("--commit", help="Exact commit.")] = "",
    scanner: Annotated[str, typer.Option("--scanner", help="Name of the scanner that must have looked.")] = "",
    environment: Environment = "",
    json: Annotated[bool, typer.Option("--json", help="Print answers and facts as JSON.")] = False,
) -> None:
    """Check what was signed about an artifact, and say what it is, from which source, by which system and under which
    policy. The exit code is 1 when anything demanded is missing. With bundles and a key no daemon is asked."""
    from orchestrator.cli import output
    from orchestrator.cli.artifacts.commands import digest_of
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.render.verification import verification_detail
    from orchestrator.evidence.attestations.verifying import signers_of_keys
    from orchestrator.evidence.attestations.verifying import verify as verify_attestations

    digest = digest_of(artifact)
    demands = _demands(kind, builder, level)
    demands = replace(demands, source=source, commit=commit, scanner=scanner, environment=environment)
    daemons, others = _keys(context, key, signer)
    signers = signers_of_keys(daemons, others, demands.builders)
    sources = _attestations(context, digest, bundles or [])
    found = verify_attestations(digest, sources, signers, demands, time.time_ns())
    if json:
        output.print_json(found.as_json())
    else:
        output.show(verification_detail(found, asked=len(sources), by_daemon=not (key or signer)))
    if found.missing:
        raise typer.Exit(int(ExitCode.FAILURE))


def _demands(kinds: list[str] | None, builders: list[str] | None, level: int) -> Demands:
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.attestations.verifying import DEFAULT_KINDS, KINDS, Demands

    for kind in kinds or ():
        if kind not in KINDS:
            raise UsageError(f"--type {kind}: there is no such type", fix=f"one of {', '.join(KINDS)}")
    named: dict[str, int] = {}
    for text in builders or ():
        matched = _BUILDER.fullmatch(text)
        if matched is None:
            raise UsageError("--builder: the id is empty", fix="--builder ID, or --builder ID=LEVEL")
        named[matched[1]] = int(matched[2] or 0)
    if level and not named:
        raise UsageError(
            f"--level {level}: which builder is worth that, only you can say", fix=f"--builder ID={level}, the exact id"
        )
    return Demands(tuple(kinds or DEFAULT_KINDS), named, level)


def _keys(
    context: typer.Context, keys: list[Path] | None, signers: list[str] | None
) -> tuple[Sequence[PublicKey], dict[str, Sequence[PublicKey]]]:
    """The daemon's keys, and those of others by name."""
    from orchestrator.cli.artifacts.files import keys_in
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.attestations.keys import read_keys
    from orchestrator.evidence.attestations.signers import CONTROL_PLANE

    others: dict[str, Sequence[PublicKey]] = {}
    for text in signers or ():
        matched = _SIGNER.fullmatch(text)
        if matched is None or matched[1] == CONTROL_PLANE:
            raise UsageError(f"--signer {text}: not a name and a file", fix="--signer NAME=FILE; --key is the daemon's")
        others[matched[1]] = (*others.get(matched[1], ()), *keys_in(Path(matched[2])))
    if keys or others:
        return [key for path in keys or () for key in keys_in(path)], others
    return read_keys(client_of(context).evidence_key(), "the daemon's answer"), others


def _attestations(context: typer.Context, digest: str, files: list[Path]) -> list[str]:
    from orchestrator.cli.artifacts.files import read_file
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.attestations.reading import MAX_ATTESTATION_BYTES

    if len(files) > _MOST_ATTESTATIONS:
        raise UsageError(f"{len(files)} attestations are too many", fix=f"name at most {_MOST_ATTESTATIONS}")
    if files:
        return [read_file(path, MAX_ATTESTATION_BYTES).decode("utf-8", "replace") for path in files]
    client = client_of(context)
    listed = client.artifact(digest)["attestations"][:_MOST_ATTESTATIONS]
    return [client.attestation(digest, one["id"]) for one in listed]
