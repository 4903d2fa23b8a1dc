"""The command line's entry: global options, the commands, and how errors reach a person.

Importing this stays cheap: commands import what they need when they run.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.cli import check_config, init, reference, run, version
from orchestrator.cli.approvals import commands as approvals
from orchestrator.cli.artifacts import attest, verify
from orchestrator.cli.artifacts import commands as artifacts
from orchestrator.cli.audit import commands as audit
from orchestrator.cli.cluster import gateway, manifests, preflight, runner_api_ca
from orchestrator.cli.exits import CommandError, ExitCode
from orchestrator.cli.jobs import cancel, logs, receipt, show, submit, trace, why
from orchestrator.cli.jobs import listing as jobs
from orchestrator.cli.operations import (
    activity,
    backup,
    drain,
    inventory,
    keys,
    monitoring,
    notifications,
    page,
    pools,
    reload,
    restore,
    scorecard,
    secrets,
    sources,
    support_bundle,
    top,
)
from orchestrator.cli.policy import commands as policy
from orchestrator.cli.session import Session, examples
from orchestrator.cli.trust import commands as trust
from orchestrator.errors import OrchestratorError


class CommandGroup(TyperGroup):
    """Turns our errors into one line, the way out and an exit code; never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OrchestratorError as error:
            from orchestrator.cli.output import complain

            complain(error)
            raise typer.Exit(error.exit_code if isinstance(error, CommandError) else ExitCode.FAILURE) from None


app = typer.Typer(
    name="orchestrator",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="One isolated, single-use runner for each CI job, with an identity of its own.",
    epilog="Exit codes and every option: docs/reference/cli.md",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(envvar="ORCHESTRATOR_URL", help="The daemon's address. Default: the one in the state folder."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="ORCHESTRATOR_TOKEN_FILE", help="File with a caller token. Default: the local daemon's."),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(envvar="ORCHESTRATOR_STATE_DIR", help="The daemon's state folder.")
    ] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Send the token over plain http beyond this machine.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=version.shown, is_eager=True, help="As the command version.")
    ] = False,
) -> None:
    if state_dir is not None:
        context.with_resource(_variable("ORCHESTRATOR_STATE_DIR", str(state_dir)))
    context.obj = Session(url=url, token_file=token_file, allow_http=allow_http)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set for the command only: who calls the command line within a process gets its environment back."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


app.command(epilog=examples(run.EXAMPLES))(run.run)
app.command(epilog=examples(submit.EXAMPLES))(submit.submit)
app.command(epilog=examples(jobs.EXAMPLES))(jobs.jobs)
app.command(epilog=examples(show.EXAMPLES))(show.show)
app.command(epilog=examples(why.EXAMPLES))(why.why)
app.command(epilog=examples(top.EXAMPLES))(top.top)
app.command(epilog=examples(logs.EXAMPLES))(logs.logs)
app.command(epilog=examples(trace.EXAMPLES))(trace.trace)
app.command(epilog=examples(receipt.EXAMPLES))(receipt.receipt)
app.command(epilog=examples(cancel.EXAMPLES))(cancel.cancel)
app.command(epilog=examples(activity.EXAMPLES))(activity.activity)
app.command(epilog=examples(pools.EXAMPLES))(pools.pools)
app.command(epilog=examples(sources.EXAMPLES))(sources.sources)
app.command(epilog=examples(page.EXAMPLES))(page.page)
app.add_typer(artifacts.app, name="artifacts")
app.command(epilog=examples(attest.EXAMPLES))(attest.attest)
app.command(epilog=examples(verify.EXAMPLES))(verify.verify)
app.add_typer(keys.app, name="keys")
app.add_typer(secrets.app, name="secrets")
app.add_typer(inventory.app, name="inventory")
app.command(epilog=examples(scorecard.EXAMPLES))(scorecard.scorecard)
app.add_typer(notifications.app, name="notifications")
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.add_typer(trust.app, name="trust")
app.add_typer(approvals.app, name="approvals")
app.command("check-config", epilog=examples(check_config.EXAMPLES))(check_config.check_config)
app.command(epilog=examples(init.EXAMPLES))(init.init)
app.command(epilog=examples(manifests.EXAMPLES))(manifests.manifests)
app.command(epilog=examples(monitoring.EXAMPLES))(monitoring.monitoring)
app.command(epilog=examples(preflight.EXAMPLES))(preflight.preflight)
app.command(epilog=examples(gateway.EXAMPLES))(gateway.gateway)
app.command("runner-api-ca", epilog=examples(runner_api_ca.EXAMPLES))(runner_api_ca.runner_api_ca)
app.command(epilog=examples(reload.EXAMPLES))(reload.reload)
app.command(epilog=examples(drain.EXAMPLES))(drain.drain)
app.command(epilog=examples(backup.EXAMPLES))(backup.backup)
app.command(epilog=examples(restore.EXAMPLES))(restore.restore)
app.command("support-bundle", epilog=examples(support_bundle.EXAMPLES))(support_bundle.support_bundle)
app.command(epilog=examples(version.EXAMPLES))(version.version)
app.add_typer(reference.app, name="reference", hidden=True)


def main() -> None:
    """Run the command line; ends the process."""
    _keep_standard_streams()
    try:
        app(prog_name="orchestrator")
    except Exception as error:  # the last line of defence: a defect is told in one line, too
        sys.stderr.write("".join(f"{line}\n" for line in _told(error)))
        if sys.flags.dev_mode:
            raise
        sys.exit(ExitCode.FAILURE)


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""How writing fails when there is no place for more."""
_IN_THE_WAY = _NO_ROOM | {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE),
}
"""How a path fails that somebody named."""


def _told(error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do about it: a path or a disk in the way is not ours to mend."""
    if isinstance(error, OSError) and error.filename is not None and error.errno in _IN_THE_WAY:
        return (
            f"error: {error.filename}: {error.strerror}",
            "  fix: check the path, its permissions and its disk",
        )
    if isinstance(error, OSError) and error.filename is None and error.errno in _NO_ROOM:
        return (
            f"error: what this prints cannot be written: {error.strerror}",
            "  fix: free space where standard output goes, or send it elsewhere",
        )
    return (
        f"error: internal error: {type(error).__name__}: {error}",
        "  fix: this is a defect; python -X dev -m orchestrator ARGUMENTS shows where",
    )


def _keep_standard_streams() -> None:
    """Open those that were closed by who started us: the first files of the daemon, the journal say, would get their
    numbers, and whatever is printed would be written into them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
