"""`orchestrator inventory`: every credential that the daemon holds or brokers, and static secrets in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.session import client_of, examples

EXAMPLES = ("orchestrator inventory", "orchestrator inventory --json")
SCAN_EXAMPLES = (
    "orchestrator inventory scan .",
    "orchestrator inventory scan ../app ../infra --by name --json",
    "orchestrator inventory scan .github/workflows/release.yml --exit-status",
)

app = typer.Typer(help="Credentials: what there is, who answers for it, what its loss would mean. Never a value.")


@app.callback(invoke_without_command=True, epilog=examples(EXAMPLES))
def inventory(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with where each lies.")] = False,
) -> None:
    """List every credential that the daemon holds or brokers, the riskiest first: owner, age, use, rotation, what it
    opens. For operators."""
    if context.invoked_subcommand is not None:
        return
    from datetime import UTC, datetime

    from orchestrator.cli import output
    from orchestrator.cli.render.accounts import credential_entries

    found = client_of(context).read("/v1/inventory")
    if json:
        output.print_json(found)
    else:
        output.show(*credential_entries(found, datetime.now(UTC)))


@app.command("scan", epilog=examples(SCAN_EXAMPLES))
def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Repositories, folders, or single files of a CI configuration."),
    ],
    by: Annotated[
        str, typer.Option("--by", metavar="place|name", help="A line for each reference, or one for each secret.")
    ] = "place",
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 when there is more than the platform's own job token.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Find static secrets that CI configurations refer to, the riskiest first. No daemon is needed.

    Knows the files of GitHub, Gitea, Forgejo, GitLab, Buildkite, CircleCI, Azure, Jenkins and others, by their names.
    """
    from orchestrator.cli import output
    from orchestrator.cli.exits import ExitCode, UsageError
    from orchestrator.cli.render.accounts import finding_table, name_table
    from orchestrator.identity.secrets import scan as scanning

    if by not in ("place", "name"):
        raise UsageError(f"--by is {by!r}", fix="it is place or name")
    found = scanning.scan(paths)
    names = scanning.summary(found)
    if json:
        output.print_json({"names": names} if by == "name" else {"findings": [one.as_json() for one in found]})
    elif not found:
        output.say("no reference to a static secret was found")
    elif by == "name":
        output.show(name_table(names))
    else:
        output.show(finding_table([one.as_json() for one in found]))
    if exit_status and any(one.kind != "job_token" for one in found):
        raise typer.Exit(ExitCode.FAILURE)
