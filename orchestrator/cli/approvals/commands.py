"""`orchestrator approvals`: what people sign so that a job may go where it otherwise would not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.approvals.options import (
    Id,
    Json,
    Key,
    Output,
    Reason,
    Target,
    Yes,
    give_in,
    sign_and_give_in,
    tell,
)
from orchestrator.cli.approvals.request import REQUEST_EXAMPLES, request
from orchestrator.cli.session import client_of, examples

_SHA = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

SIGN_EXAMPLES = (
    f"orchestrator approvals sign {_SHA} --key alice.pem",
    "orchestrator approvals sign break-glass.json --key alice.pem",
    f"orchestrator --token-file id-token approvals sign {_SHA}",
    "orchestrator approvals sign break-glass.json --to-sign bytes",
    "orchestrator approvals sign break-glass.json --signature bytes.sig --public-key cosign.pub",
)
SUBMIT_EXAMPLES = ("orchestrator approvals submit approvals/*.json",)
LIST_EXAMPLES = (
    "orchestrator approvals list",
    "orchestrator approvals list --kind break_glass --state counts",
    "orchestrator approvals list --type exception --json",
)
SHOW_EXAMPLES = (
    f"orchestrator approvals show {_SHA}",
    f"orchestrator approvals show {_SHA} --job 3f2a --exit-status",
)
REVOKE_EXAMPLES = (
    f"orchestrator approvals revoke {_SHA} -r 'the build was wrong'",
    f"orchestrator approvals revoke {_SHA} -r 'the build was wrong' --key alice.pem",
)
REVIEW_EXAMPLES = (f"orchestrator approvals review {_SHA} --verdict justified -r 'scanned since' --key dave.pem",)

app = typer.Typer(no_args_is_help=True, help="Approvals, and exceptions to the rules: asked for, signed, reviewed.")

app.command("request", epilog=examples(REQUEST_EXAMPLES))(request)


@app.command("sign", epilog=examples(SIGN_EXAMPLES))
def sign(
    context: typer.Context,
    target: Target,
    key: Key = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", metavar="FILE", help="A signature that another program made.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", metavar="FILE", help="The public key (PEM) that `--signature` is of.")
    ] = None,
    to_sign: Annotated[
        Path | None, typer.Option("--to-sign", metavar="FILE", help="Write the bytes to be signed there, and stop.")
    ] = None,
    output: Output = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Add your signature to what somebody has asked for. A file is written again; an object is given in.

    With `--to-sign` and then `--signature` a key that cannot leave its device signs: `openssl dgst -sha256 -sign`,
    `cosign sign-blob`, or a token's own program.
    """
    from orchestrator.cli import output as out
    from orchestrator.cli.approvals.files import attached, is_id, load, signed, write
    from orchestrator.cli.exits import UsageError
    from orchestrator.cli.render.approvals import statement_lines

    if (signature is None) is not (public_key is None):
        raise UsageError("--signature and --public-key go together")
    envelope = load(target, lambda: client_of(context))
    if to_sign is not None:
        write(to_sign, envelope.to_sign(), anew=True)
        return
    for line in statement_lines(envelope.payload):
        out.note(line)
    if not yes:
        typer.confirm("Sign this?", abort=True, err=True)
    if signature is not None and public_key is not None:
        envelope = attached(envelope, signature, public_key)
    elif key is None and not is_id(target):
        raise UsageError("a file needs --key, or --signature and --public-key", fix="or give it in and name its id")
    if key is not None:
        envelope = signed(envelope, key)
    give_in(context, envelope, output or (None if is_id(target) else Path(target)), json=json)


@app.command("submit", epilog=examples(SUBMIT_EXAMPLES))
def submit(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files with signed objects.")],
    json: Json = False,
) -> None:
    """Give in what was signed elsewhere. Again is without effect."""
    from orchestrator.cli.approvals.files import load

    for file in files:
        give_in(context, load(str(file), lambda: client_of(context)), None, json=json)


@app.command("list", epilog=examples(LIST_EXAMPLES))
def list_(
    context: typer.Context,
    type_: Annotated[str, typer.Option("--type", help="`approval`, `exception`, `revocation` or `review`.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="Such as `security` or `break_glass`.")] = "",
    environment: Annotated[str, typer.Option("--environment", "-e", help="Where it counts.")] = "",
    state: Annotated[str, typer.Option("--state", help="`counts`, or why it does not: `approval_expired`…")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most lines.")] = 50,
    json: Json = False,
) -> None:
    """List what people signed, newest first, and whether it counts now. For operators and approvers."""
    from orchestrator.cli import output
    from orchestrator.cli.approvals.files import API
    from orchestrator.cli.render.approvals import approval_entries

    wanted = {"type": type_, "kind": kind, "environment": environment, "state": state, "limit": str(limit)}
    found = client_of(context).read(API, {name: value for name, value in wanted.items() if value})
    if json:
        output.print_json(found)
    elif found["approvals"]:
        output.show(*approval_entries(found["approvals"]))
    else:
        output.say("nothing of the kind")


@app.command("show", epilog=examples(SHOW_EXAMPLES))
def show(
    context: typer.Context,
    name: Id,
    job: Annotated[str, typer.Option("--job", metavar="JOB", help="Say whether it counts for this job.")] = "",
    exit_status: Annotated[bool, typer.Option("--exit-status", help="Exit with 1 when it does not count.")] = False,
    json: Json = False,
) -> None:
    """Show one object: what it says, who signed it, what it was used for, and why it counts or does not."""
    from orchestrator.cli import output
    from orchestrator.cli.approvals.files import path_of
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.jobs.ids import resolve
    from orchestrator.cli.render.approvals import approval_lines

    client = client_of(context)
    found = client.read(path_of(name), {"job": resolve(client, job)} if job else None)
    if json:
        output.print_json(found)
    else:
        for line in approval_lines(found):
            output.say(line)
    counts = found["for_job"]["counts"] if found["for_job"] else found["state"] == "counts"
    if exit_status and not counts:
        raise typer.Exit(ExitCode.FAILURE)


@app.command("revoke", epilog=examples(REVOKE_EXAMPLES))
def revoke(
    context: typer.Context,
    name: Id,
    reason: Reason,
    key: Key = None,
    output: Output = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """End an object for ever. With `--key` as a person; without as the daemon's operator. Again is without effect."""
    from orchestrator.cli.approvals.files import draft, now, path_of
    from orchestrator.evidence.approvals.statements import Revocation

    if not yes:
        typer.confirm(f"Revoke {name}? It can never count again.", abort=True, err=True)
    if key is None and output is None:
        tell(client_of(context).send(path_of(name, "revoke"), {"reason": reason}), json=json)
        return
    sign_and_give_in(context, draft(Revocation(object=name, reason=reason, at=now())), key, output, json=json)


@app.command("review", epilog=examples(REVIEW_EXAMPLES))
def review(
    context: typer.Context,
    name: Id,
    verdict: Annotated[str, typer.Option("--verdict", help="`justified` or `unjustified`.")],
    reason: Reason,
    key: Key = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Say afterwards whether an exception was used rightly. Not by who asked for it, signed it, or used it."""
    from orchestrator.cli.approvals.files import draft, now
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.approvals.statements import Review

    if verdict not in ("justified", "unjustified"):
        raise UsageError(f"--verdict is {verdict!r}", fix="it is justified or unjustified")
    said = Review(
        object=name, verdict="justified" if verdict == "justified" else "unjustified", reason=reason, at=now()
    )
    sign_and_give_in(context, draft(said), key, output, json=json)
