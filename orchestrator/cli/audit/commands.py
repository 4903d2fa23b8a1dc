"""`orchestrator audit verify` and `key`: does the audit log hold, and by which key is it signed?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.audit import proof as audit_proof
from orchestrator.cli.audit import show as audit_show
from orchestrator.cli.audit.folder import Folder, Key
from orchestrator.cli.session import examples

if TYPE_CHECKING:
    from orchestrator.evidence.audit.report import Report

VERIFY_EXAMPLES = (
    "orchestrator audit verify",
    "orchestrator audit verify /mnt/copy/audit --key audit.vkey --checkpoint /mnt/elsewhere/checkpoints",
)
KEY_EXAMPLES = ("orchestrator audit key", "orchestrator audit key > audit.vkey")

app = typer.Typer(no_args_is_help=True, help="Read and check the audit log, on the daemon's machine or on a copy.")


@app.command("verify", epilog=examples(VERIFY_EXAMPLES))
def audit_verify(
    folder: Folder = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Checkpoints kept elsewhere: a file of one or many, or a folder of such files. May be repeated.",
        ),
    ] = None,
    key: Key = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check every record, the chain and all checkpoints, and name the first bad record.

    Needs no daemon, and may run beside one. Exit code 0: all holds; 1: something does not. Whoever can write the folder
    can put it back as it was at an earlier checkpoint, and with the signing key write it anew: only checkpoints that
    were kept elsewhere show that.
    """
    from orchestrator.cli.audit.folder import files_in, log_folder, public_key
    from orchestrator.cli.exits import CommandError, ExitCode
    from orchestrator.cli.output import print_json, say
    from orchestrator.evidence.audit.verify import verify

    chosen = log_folder(folder)
    verifier = public_key(key, chosen)
    try:
        report = verify(chosen, verifier, files_in(checkpoint or ()))
    except OSError as error:
        raise CommandError(
            f"{error.filename or chosen} cannot be read: {error.strerror}", fix="check the path and its permissions"
        ) from None
    if json:
        print_json(report.as_json())
    else:
        for line in _lines(report, own_key=key is None):
            say(line)
    if not report.ok:
        raise typer.Exit(ExitCode.FAILURE)


@app.command("key", epilog=examples(KEY_EXAMPLES))
def audit_key(folder: Folder = None) -> None:
    """Print the log's public key, for those who are to verify it elsewhere."""
    from orchestrator.cli.audit.folder import log_folder, public_key
    from orchestrator.cli.output import say

    say(public_key(None, log_folder(folder)).vkey)


app.command("show", epilog=examples(audit_show.EXAMPLES))(audit_show.audit_show)
app.command("prove", epilog=examples(audit_proof.PROVE_EXAMPLES))(audit_proof.audit_prove)
app.command("check-proof", epilog=examples(audit_proof.CHECK_EXAMPLES))(audit_proof.audit_check_proof)


def _lines(report: Report, *, own_key: bool) -> list[str]:
    finding = report.finding
    made = []
    if finding is not None:
        which = f"record {finding.first}"
        if finding.last > finding.first:
            which = f"one of the records {finding.first} to {finding.last}"
        made.append(f"FIRST BAD RECORD: {which} ({finding.fault.value})")
        made.append(f"  why: {finding.why}")
        made.append(f"  where: {finding.where}")
    made += [f"CHECKPOINT NOT TRUSTED: {one.where}: {one.why}" for one in report.refused]
    made += [f"no checkpoint, left by a crash there: {one.where}" for one in report.fragments]
    made.append(f"records that hold: {report.records}, root {report.root}")
    made.append(f"checkpoints that hold: {report.checkpoints}, {report.external} of them from outside of the folder")
    made.append(f"vouched for by a checkpoint: records up to {report.vouched}")
    made.append(f"key: {report.key}{', as the folder itself has it' if own_key else ''}")
    if report.torn_bytes:
        made.append(f"unfinished at the end: {report.torn_bytes} bytes, which no one was told of")
    made.append("the log holds" if report.ok else "the log does NOT hold")
    if report.ok and not report.external:
        made.append("no checkpoint from elsewhere was given (--checkpoint): an earlier state would verify as well")
    return made
