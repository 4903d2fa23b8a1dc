"""`orchestrator run`: the daemon, in the foreground."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = ("orchestrator run", "orchestrator run --config orchestrator.yaml")


def run(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings in YAML. Default: the embedded default."
        ),
    ] = None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT; running jobs are drained first.

    SIGHUP does what `orchestrator reload` does: it loads the settings, the policy bundle, the trust map, the keys of
    signers and the approvers' file again. What does not fit, or fails its own checks, is not put in force: the old one
    stays, the log has the error, and a metric such as orchestrator_policy_reload_failed is 1. Of the settings only
    pools, deadlines, notifications and how the daemon logs change then; the log names others that differ and need a
    restart.

    Without a file it runs jobs of this user in local sandboxes, and leaves its address and a caller token in the
    state folder, where the other commands find them.
    """
    # Loading the daemon takes a while, and as a container's first process we would not even notice to be told to stop.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
    from orchestrator.daemon import run as run_daemon
    from orchestrator.settings import load_settings

    raise typer.Exit(run_daemon(load_settings(config), reread=lambda: load_settings(config, again=True)))
