"""`orchestrator audit prove` and `check-proof`: one record, shown to somebody who has not got the log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.audit.folder import Key

if TYPE_CHECKING:
    from orchestrator.evidence.audit.note import NoteVerifier

PROVE_EXAMPLES = (
    "orchestrator audit prove 4711 --output record-4711.tlog-proof",
    "orchestrator audit prove --since-checkpoint kept.checkpoint --output growth.proof",
)
CHECK_EXAMPLES = (
    "orchestrator audit check-proof record-4711.tlog-proof --key audit.vkey",
    "orchestrator audit check-proof growth.proof --since-checkpoint kept.checkpoint --key audit.vkey",
)

Since = Annotated[
    Path | None,
    typer.Option("--since-checkpoint", metavar="FILE", help="A checkpoint kept from before: the log only grew since."),
]


def audit_prove(
    seq: Annotated[int | None, typer.Argument(metavar="SEQ", help="The record's number.", min=1)] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="The log's folder, or a copy. Default: the daemon's, by its settings or state folder."),
    ] = None,
    since_checkpoint: Since = None,
    output: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
    key: Key = None,
) -> None:
    """Make a proof that record SEQ is in the log, or that the log only grew since a checkpoint.

    The proof holds the record, the hashes that lead to the newest checkpoint, and this. Nothing else of the log is in
    it. The form is C2SP's tlog-proof (for growth: the one that C2SP's witnesses are asked in).
    """
    from orchestrator.cli.audit.folder import checkpoint_in, log_folder, public_key
    from orchestrator.cli.exits import CommandError, UsageError
    from orchestrator.evidence.audit.proof import prove_growth, prove_record
    from orchestrator.evidence.audit.segments import NEWEST

    if (seq is None) is (since_checkpoint is None):
        raise UsageError("what is to be proven?", fix="give either the number of a record or --since-checkpoint FILE")
    chosen = log_folder(folder)
    verifier = public_key(key, chosen)
    newest = checkpoint_in(chosen / NEWEST, verifier)
    try:
        if since_checkpoint is not None:
            text = prove_growth(chosen, checkpoint_in(since_checkpoint, verifier), newest).text
        else:
            text = prove_record(chosen, seq or 0, newest).text
        if output is None:
            typer.echo(text, nl=False)
        else:
            output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"{error.filename} cannot be read or written: {error.strerror}", fix="check the path and its permissions"
        ) from None


def audit_check_proof(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A proof that `audit prove` made.")],
    key: Key = None,
    since_checkpoint: Since = None,
) -> None:
    """Check a proof without the log, and print the record that it is about.

    Without `--key` the key of the log in the state folder is trusted. Exit code 0: it is proven; 1: it is not.
    """
    from orchestrator.cli.audit.folder import log_folder, public_key
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.audit.proof import MAX_PROOF_BYTES, is_growth

    verifier = public_key(key, None if key is not None else log_folder(None))
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_PROOF_BYTES + 1).decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", fix="name a file with a proof") from None
    if not is_growth(text):
        if since_checkpoint is not None:
            raise UsageError(
                "this is no proof that a log grew since a checkpoint", fix="leave --since-checkpoint out, or make one"
            )
        _check_record(text, verifier)
    elif since_checkpoint is not None:
        _check_growth(text, since_checkpoint, verifier)
    else:
        raise UsageError(
            "this proof shows that a log grew since a checkpoint", fix="give that checkpoint with --since-checkpoint"
        )


def _check_record(text: str, verifier: NoteVerifier) -> None:
    from orchestrator.cli.output import note, say
    from orchestrator.evidence.audit.proof import RecordProof

    proof = RecordProof.parse(text)
    record, checkpoint = proof.check(verifier)
    say(proof.line.decode())
    note(f"proven: record {record.seq} of {checkpoint.size} that {verifier.vkey} signed for")


def _check_growth(text: str, since: Path, verifier: NoteVerifier) -> None:
    from orchestrator.cli.audit.folder import checkpoint_in
    from orchestrator.cli.output import say
    from orchestrator.evidence.audit.proof import GrowthProof

    old = checkpoint_in(since, verifier)
    new = GrowthProof.parse(text).check(old, verifier)
    say(f"proven: the log of {new.size} records begins with the {old.size} of before, signed by {verifier.vkey}")
