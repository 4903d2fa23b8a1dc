"""`orchestrator attest`: sign a statement about an artifact with a key of one's own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from orchestrator.evidence.approvals.keys import PrivateKey

EXAMPLES = (
    "orchestrator attest app.whl --type signature --key release.pem > app.whl.signature.sigstore.json",
    "orchestrator attest app.whl --type sbom --predicate bom.cdx.json --key release.pem --upload",
    "orchestrator attest sha256:… --type scan --predicate trivy.json --scanner trivy --key scan.pem --output scan.json",
    "orchestrator attest app.whl --type https://example.com/tests/v1 --predicate tests.json --key release.pem",
)

_MAX_PREDICATE: Final = 4 << 20
_MAX_PASSPHRASE: Final = 4096


def attest(
    context: typer.Context,
    artifact: Annotated[str, typer.Argument(metavar="FILE|DIGEST", help="The artifact, or its digest (`sha256:…`).")],
    kind: Annotated[str, typer.Option("--type", help="signature, sbom, scan, or the URI of any other predicate type.")],
    key: Annotated[Path, typer.Option("--key", help="Private key (PEM): P-256 or Ed25519.")],
    predicate: Annotated[
        Path | None, typer.Option("--predicate", help="JSON file: SBOM, scanner's report, or predicate.")
    ] = None,
    scanner: Annotated[str, typer.Option("--scanner", help="For a report that does not name its scanner.")] = "",
    finished_at: Annotated[
        str, typer.Option("--finished-at", help="For a report without its time: when the scan ended, RFC 3339.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Name of the artifact. Default: the file's.")] = "",
    passphrase_file: Annotated[
        Path | None, typer.Option("--passphrase-file", help="File with the passphrase of an encrypted key.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the bundle there.")] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Give it to the daemon as well.")] = False,
) -> None:
    """Make a Sigstore bundle with a signed statement about an artifact; no daemon is needed. It counts where the key's
    owner is a signer (`promotion.signers`) that may say this; `cosign verify-blob-attestation` reads it as well."""
    from orchestrator.cli import output as out
    from orchestrator.cli.artifacts.commands import digest_of
    from orchestrator.evidence.attestations.making import statement

    digest = digest_of(artifact)
    called = name or (Path(artifact).name if artifact != digest else "")
    predicate_type, document = _predicate(kind, predicate, scanner, finished_at)
    private = _private_key(key, passphrase_file)
    bundle = _sign(statement([(called, digest)], predicate_type, document), private)
    _refuse_what_cannot_count(digest, bundle, private)
    if output is not None:
        _write(output, bundle)
        out.note(f"{predicate_type} about {digest} is in {output}")
    elif not upload:
        out.say(bundle)
    if upload:
        kept = client_of(context).send(f"/v1/artifacts/{quote(digest, safe='')}/attestations", _object(bundle))
        worth = ", ".join(kept["counts_for"]) or f"nothing: {kept['reason'] or 'no such claim'}"
        out.note(f"the daemon keeps it as {kept['id']}; it counts for {worth}")


def _predicate(kind: str, path: Path | None, scanner: str, finished_at: str) -> tuple[str, Any]:
    from orchestrator.cli.artifacts.files import read_file
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.attestations.documenting import sbom_predicate, scan_predicate
    from orchestrator.evidence.attestations.making import SIGNATURE_TYPE

    if kind == "signature":
        if path is not None:
            raise UsageError("a signature says nothing but itself", fix="leave --predicate out")
        return SIGNATURE_TYPE, {}
    if path is None:
        raise UsageError(f"--type {kind} needs a document", fix="--predicate FILE")
    document = _object(read_file(path, _MAX_PREDICATE).decode("utf-8", "replace"), str(path))
    if kind == "sbom":
        return sbom_predicate(document)
    if kind == "scan":
        return scan_predicate(document, scanner, finished_at)
    if ":" not in kind:
        raise UsageError(f"--type {kind}: there is no such type", fix="signature, sbom, scan, or a URI")
    return kind, document


def _object(text: str, where: str = "it") -> dict[str, Any]:
    import msgspec

    from orchestrator.cli.exits import UsageError

    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{where} holds no JSON object", fix="name a JSON file")
    return found


def _private_key(path: Path, passphrase_file: Path | None) -> PrivateKey:
    from orchestrator.cli.artifacts.files import read_file
    from orchestrator.evidence.approvals.keys import read_private_key

    passphrase = None
    if passphrase_file is not None:
        passphrase = read_file(passphrase_file, _MAX_PASSPHRASE).decode("utf-8", "replace").rstrip("\r\n")
    return read_private_key(path, passphrase)


def _sign(told: dict[str, Any], private: PrivateKey) -> str:
    from orchestrator.evidence.approvals.keys import sign
    from orchestrator.evidence.attestations.making import bundle_text
    from orchestrator.evidence.attestations.reading import read_attestation
    from orchestrator.evidence.envelope import envelope_text, pre_authentication_encoding
    from orchestrator.evidence.provenance import IN_TOTO, statement_bytes

    payload = statement_bytes(told)
    signature = sign(private, pre_authentication_encoding(IN_TOTO, payload))
    return bundle_text(read_attestation(envelope_text(payload, IN_TOTO, signature, "")), private.public_key())


def _refuse_what_cannot_count(digest: str, bundle: str, private: PrivateKey) -> None:
    """Read what was made as the gate will: better refused here than there."""
    from orchestrator.cli.exits import CommandError
    from orchestrator.evidence.attestations.facts import judge
    from orchestrator.evidence.attestations.verifying import signers_of_keys

    signers = signers_of_keys((), {"you": [private.public_key()]}, {})
    (examined,) = judge(digest, [bundle], signers, time.time_ns()).attestations
    if examined.reason:
        raise CommandError(
            f"the document would count for nothing: {examined.reason}", fix="docs/reference/attestations.md says why"
        )


def _write(path: Path, text: str) -> None:
    from orchestrator.cli.exits import CommandError

    try:
        path.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", fix="check the path and its permissions") from None
