"""`orchestrator restore`: a backup into an empty state folder, after all of it was checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.daemon.backup.restoring import Checked
    from orchestrator.model.job import JobId

EXAMPLES = (
    "orchestrator restore --check monday.backup",
    "orchestrator --state-dir /var/lib/orchestrator restore monday.backup",
    "orchestrator restore --config orchestrator.yaml --aside /backup/",
    "age -d -i key.txt monday.backup.age | orchestrator restore --config orchestrator.yaml -",
)

_HAZARDS = (
    "what happened after the backup is unknown here: the newest audit log tells of jobs, tokens and approvals since",
    "an idempotency key or caller token used since then would be taken again until the token expires",
    "an approval or key that was revoked since then counts again: revoke it again",
)


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A backup, a folder (the newest there by its name), or - for a pipe.")
    ],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings of the daemon.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the backup; put nothing anywhere.")] = False,
    keep_jobs: Annotated[
        bool,
        typer.Option(
            "--keep-jobs", help="Go on with unfinished jobs: only where nothing has run since the backup was made."
        ),
    ] = False,
    newer_audit: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The newest audit log that is left, where it is newer than the backup's.",
        ),
    ] = None,
    aside: Annotated[
        bool,
        typer.Option(
            "--aside",
            help="Move what is in the state folder to `<folder>.before-<time>` first, and take the audit log there, "
            "which is newer than the backup's.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Check a backup as a whole (digests, databases, audit log) and put it into an empty state folder.

    Stop the daemon first. Jobs that were not at their end are cancelled by the next start, since they may have run
    after the backup was made; --keep-jobs is for when they cannot have.
    """
    from contextlib import ExitStack

    from orchestrator.cli.render.progress import Progress
    from orchestrator.daemon.backup import restoring
    from orchestrator.daemon.backup.aside import audit_of, moved_aside
    from orchestrator.daemon.backup.kept import newest
    from orchestrator.settings import load_settings

    progress = Progress("read")
    if file.is_dir():
        file = newest(file)
    if check:
        _tell(file, restoring.check(file, lambda done: progress(done, 0)), None, (), json=json)
        return
    settings = load_settings(config)
    with ExitStack() as stack:
        moved = stack.enter_context(moved_aside(settings)) if aside else {}
        checked, ended = restoring.restore(
            settings,
            file,
            keep_jobs=keep_jobs,
            newer_audit=newer_audit or audit_of(settings, moved),
            progress=lambda done: progress(done, 0),
        )
    _tell(file, checked, ended, tuple(moved.values()), json=json)


def _tell(file: Path, checked: Checked, ended: list[JobId] | None, moved: tuple[Path, ...], *, json: bool) -> None:
    from orchestrator.cli.output import note, print_json, say

    made = checked.manifest
    if json:
        put = {} if ended is None else {"cancelled_jobs": list(ended)}
        away = {"moved_aside": [str(one) for one in moved]} if moved else {}
        print_json({"file": str(file), **made.as_json(), "audit_records": checked.audit_records, **put, **away})
        return
    audited = "no audit log" if checked.audit_records is None else f"{checked.audit_records} audit records hold"
    say(f"{file}: whole; made at {made.made_at} by version {made.version}; {len(made.files)} files, {audited}")
    if ended is None:
        return
    say(f"restored; {len(ended)} unfinished jobs will be cancelled by the next start")
    for one in moved:
        note(f"what was there is in {one}: it holds private keys, so remove it when nobody needs it")
    for line in _HAZARDS:
        note(f"mind: {line}")
