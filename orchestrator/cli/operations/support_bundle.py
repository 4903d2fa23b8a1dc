"""`orchestrator support-bundle`: one file for whoever helps, with nothing secret in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.cli.support.bundle import Bundle
    from orchestrator.cli.support.cleaning import Cleaner
    from orchestrator.cli.support.journal_part import JournalPart
    from orchestrator.settings import Settings

EXAMPLES = (
    "orchestrator support-bundle",
    "orchestrator support-bundle --config orchestrator.yaml --output support.tar.gz",
    "orchestrator support-bundle --jobs 20 --json",
)

_READ_ME = """\
A support bundle of the ephemeral runner orchestrator. contents.json lists every document, and why one is missing.

Left out by design: scripts, environment variables, output and claims of jobs, tokens, keys, the content of every
secret's file, arguments of commands, paths of addresses in the settings, signed envelopes.
Masked wherever it turned up: every secret that this machine could name by its value, and what looks like a credential.
Still in it: names of jobs, pools, repositories, callers, hosts and people who cancelled or approved, and messages of
backends and policy. Look into it before you send it: tar -xzf FILE, and read.
"""


def support_bundle(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="The daemon's settings in YAML.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to make. Default: a name with the time, here.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, max=50, help="Of how many of the last failed jobs.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print what is in it as JSON.")] = False,
) -> None:
    """Gather versions, settings, checks, metrics, the newest facts and the last failed jobs, without secrets.

    Works while the daemon runs and while it does not, and says of each part that could not be had why. Look into the
    file before you send it.
    """
    from dataclasses import asdict

    from orchestrator.cli import output as out
    from orchestrator.cli.render.support import bundle_table

    path = output if output is not None else Path(f"orchestrator-support-{_now()}.tar.gz")
    bundle = _gathered(context, config, jobs)
    bundle.write(path, _READ_ME)
    if json:
        out.print_json({"file": str(path), "contents": [asdict(entry) for entry in bundle.entries]})
    else:
        out.show(bundle_table(bundle.entries))
        out.say(f"{path} is made, for your eyes only. Look into it before you send it.")


def _gathered(context: typer.Context, config: Path | None, jobs: int) -> Bundle:
    import os

    from orchestrator.cli.support import machine
    from orchestrator.cli.support.bundle import Bundle
    from orchestrator.cli.support.cleaning import Cleaner
    from orchestrator.cli.support.own_log import daemon_log
    from orchestrator.cli.support.secrets_here import learn_secrets

    settings, fault = _settings(config)
    raw = settings.model_dump(mode="json") if settings is not None else _unfit(config)
    state = settings.state_dir if settings is not None else _state_dir(raw)
    cleaner = Cleaner()
    unread = learn_secrets(cleaner, state, raw, os.environ)
    part, journal = _journal(state, cleaner, settings, jobs)
    bundle = Bundle(cleaner)
    bundle.add_json("program.json", "versions of program, interpreter and packages", machine.about_program)
    bundle.add_json(
        "machine.json", "kernel, memory, disk, and names of variables", lambda: machine.about_machine(state, os.environ)
    )
    bundle.add_json("state-folder.json", "sizes and modes", lambda: machine.state_folder(state))
    bundle.add_json(
        "settings.json",
        "settings without secrets, and warnings",
        lambda: _shown(settings, fault, unread, cleaner.beyond),
    )
    bundle.add_text("daemon-log.txt", "the daemon's own standard error", lambda: daemon_log(state))
    _add_journal(bundle, part, journal)
    _add_daemon(bundle, context, jobs if journal is not None else 0)
    return bundle


def _settings(config: Path | None) -> tuple[Settings | None, str]:
    """The settings, or what is wrong with them: that is what a bundle may be needed for. No message quotes a value."""
    from orchestrator.errors import OrchestratorError
    from orchestrator.settings import load_settings

    try:
        return load_settings(config), ""
    except OrchestratorError as error:
        return None, str(error)


def _unfit(config: Path | None) -> dict[str, Any]:
    """Settings that do not fit, as they stand in their file: only for the secrets that they name."""
    from orchestrator.errors import OrchestratorError
    from orchestrator.settings.load import read_settings_file

    try:
        return read_settings_file(config) if config is not None else {}
    except OrchestratorError:
        return {}


def _state_dir(raw: Mapping[str, Any]) -> Path:
    """Where the state is by settings that do not fit, as far as they say so."""
    import os

    from orchestrator.state_dir import default_state_dir

    given = os.environ.get("ORCHESTRATOR_STATE_DIR") or raw.get("state_dir")
    return Path(given) if isinstance(given, str) and given else default_state_dir()


def _shown(settings: Settings | None, fault: str, unread: int, beyond: int) -> dict[str, Any]:
    from orchestrator.cli.insecure.settings import warnings_for
    from orchestrator.cli.shown_settings import shown
    from orchestrator.cli.support.cleaning import arguments_counted, without_paths

    about = {"unreadable_secret_files": unread, "secrets_too_many_to_mask": beyond, "fault": fault}
    if settings is None:
        return about
    return about | {
        "settings": arguments_counted(without_paths(shown(settings))),
        "warnings": list(warnings_for(settings)),
    }


def _journal(
    state: Path, cleaner: Cleaner, settings: Settings | None, jobs: int
) -> tuple[JournalPart, Exception | None]:
    """What could be read of the journal, and why no more could."""
    import asyncio
    import sqlite3
    import time

    from orchestrator.cli.support.journal_part import JournalPart
    from orchestrator.daemon.slices import deadlines
    from orchestrator.errors import GiveUpError, OrchestratorError
    from orchestrator.lifecycle.observation import Deadlines
    from orchestrator.model.phase import IllegalMoveError
    from orchestrator.model.record import MissingOfferError

    given = deadlines(settings) if settings is not None else Deadlines()
    part = JournalPart(state / "journal.db", cleaner, given, time.time_ns())
    try:
        asyncio.run(part.read(jobs))
    except OrchestratorError as error:
        return part, error
    except (sqlite3.Error, OSError, IllegalMoveError, MissingOfferError) as error:
        return part, GiveUpError(f"{type(error).__name__} while it was read", reason="journal_unreadable")
    return part, None


def _add_journal(bundle: Bundle, part: JournalPart, fault: Exception | None) -> None:
    from functools import partial

    from orchestrator.cli.support.journal_part import trace_of

    def told(make: Callable[[], Any]) -> Callable[[], Any]:
        """What was read, or the fault where nothing was."""

        def made() -> Any:
            found = make()
            if fault is not None and not found:
                raise fault
            return found

        return made

    bundle.add_json("journal/counts.json", "how much there is of what", told(lambda: part.counts))
    bundle.add_lines("journal/newest-facts.jsonl", "what happened last, of all jobs", told(part.tail_lines))
    bundle.add_lines("journal/unfinished.jsonl", "unfinished jobs, and what each waits for", told(part.unfinished_rows))
    for facts in part.failed:
        folder = f"jobs/{facts[0].job_id}"
        bundle.add_json(f"{folder}/job.json", "the job", partial(part.job_of, facts))
        bundle.add_json(f"{folder}/why.json", "why it ended", partial(part.why_of, facts))
        bundle.add_json(f"{folder}/trace.json", "its trace", partial(trace_of, facts))


def _add_daemon(bundle: Bundle, context: typer.Context, remote_jobs: int) -> None:
    """What a daemon says, if one answers. Its jobs come from there where no journal was read."""
    from orchestrator.cli.exits import CommandError
    from orchestrator.cli.session import client_of
    from orchestrator.cli.support.daemon_part import add_daemon, add_remote_jobs

    def unreached(error: CommandError) -> Callable[[], str]:
        def raises() -> str:
            raise error

        return raises

    try:
        client = client_of(context)
        client.read("/v1/pools")
    except CommandError as error:
        bundle.add_text("daemon/", "what a running daemon says of itself", unreached(error))
        return
    add_daemon(bundle, client)
    if remote_jobs:
        try:
            add_remote_jobs(bundle, client, remote_jobs)
        except CommandError as error:
            bundle.add_text("jobs/", "the last jobs that failed", unreached(error))


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
