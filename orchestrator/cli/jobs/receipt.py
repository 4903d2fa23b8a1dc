"""`orchestrator receipt`: what a job had, how each of it ended, and whether the signature under it holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.session import client_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

EXAMPLES = (
    "orchestrator receipt 3f2a",
    "orchestrator receipt 3f2a --json > receipt.json",
    "orchestrator receipt 3f2a --public-key > evidence.pub",
    "orchestrator receipt --file receipt.json --key evidence.pub",
)

_MAX_KEY_BYTES = 16 << 10
_NO_RECEIPT = "name a file as `orchestrator receipt JOB --json` printed it"
_OTHER_KEY = "is it the key of the daemon that signed it? the envelope's keyid is the SHA-256 of the public key"


def receipt(
    context: typer.Context,
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Job id, or a beginning of it that fits one job.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A receipt that was kept: no daemon is asked. Needs --key.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", help="File with the public key (PEM). Default: the one the daemon gives.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the signed envelope as it is.")] = False,
    public_key: Annotated[
        bool, typer.Option("--public-key", help="Print the public key that the daemon gives, to keep elsewhere.")
    ] = False,
) -> None:
    """Show a finished job's receipt, once its signature is seen to hold. The exit code is 1 when it does not hold, or
    when the receipt itself says that something was left behind."""
    from orchestrator.cli import output

    if public_key:
        for line in client_of(context).evidence_key().splitlines():
            output.say(line)
        return
    envelope, wanted = _envelope(context, job, file, key)
    keys = _keys(_read(key, _MAX_KEY_BYTES) if key else client_of(context).evidence_key(), key)
    _show(envelope, keys, wanted, as_json=json, by_daemon=key is None)


def _envelope(context: typer.Context, job: str | None, file: Path | None, key: Path | None) -> tuple[str, str]:
    """The envelope, and the id of the job that it has to be of; empty for a file, which says itself whose it is."""
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.jobs.ids import resolve
    from orchestrator.evidence.envelope import MAX_ENVELOPE_CHARS

    if file is None and job is not None:
        client = client_of(context)
        job_id = resolve(client, job)
        return client.receipt(job_id), job_id
    if file is None or job is not None:
        raise UsageError("name a job, or a file with --file, and not both", fix="orchestrator receipt JOB")
    if key is None:
        raise UsageError(
            "a file is checked without the daemon, so the key must be named",
            fix="--key FILE, as `orchestrator receipt --public-key` printed it",
        )
    return _read(file, MAX_ENVELOPE_CHARS), ""


def _show(
    envelope: str, keys: dict[str, ec.EllipticCurvePublicKey], wanted: str, *, as_json: bool, by_daemon: bool
) -> None:
    from orchestrator.cli import output
    from orchestrator.cli.exits import CommandError, ExitCode
    from orchestrator.cli.render.receipt import receipt_detail
    from orchestrator.evidence.envelope import EnvelopeRefusedError
    from orchestrator.evidence.receipts.judging import judge
    from orchestrator.evidence.receipts.signing import open_receipt

    try:
        told, digest = open_receipt(envelope, keys)
    except EnvelopeRefusedError as error:
        raise CommandError(
            f"the receipt proves nothing: {error} [{error.reason}]",
            fix=_NO_RECEIPT if error.reason == "envelope_malformed" else _OTHER_KEY,
        ) from None
    if wanted and told.job.id != wanted:
        raise CommandError(
            f"the receipt proves nothing: it is of {told.job.id}, not of {wanted}",
            fix="something answers for the daemon",
        )
    findings = judge(told)
    if as_json:
        output.say(envelope.rstrip("\n"))
    else:
        output.show(receipt_detail(told, digest, findings, by_daemon=by_daemon))
    if not all(finding.holds for finding in findings):
        raise typer.Exit(int(ExitCode.FAILURE))


def _keys(pem: str, path: Path | None) -> dict[str, ec.EllipticCurvePublicKey]:
    from orchestrator.cli.exits import CommandError, UsageError
    from orchestrator.evidence.signing_key import read_public_keys

    found = read_public_keys(pem)
    if not found and path is None:
        raise CommandError("the daemon gives no public key that can be read", fix="name one that you kept, with --key")
    if not found:
        raise UsageError(
            f"{path} holds no public P-256 key in PEM", fix="`orchestrator receipt --public-key` prints the daemon's"
        )
    return found


def _read(path: Path, limit: int) -> str:
    from orchestrator.cli.exits import UsageError

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", fix="check the path and its permissions") from None
    if len(data) > limit:
        raise UsageError(f"{path} is larger than {limit} bytes, so it is not what it should be")
    return data.decode("utf-8", "replace")
