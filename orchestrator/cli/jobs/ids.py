"""From what a person types to a job's id: a whole id, or a prefix that fits only one job."""

from __future__ import annotations

import re

from orchestrator.cli.exits import CommandError, UsageError
from orchestrator.cli.link.client import DaemonClient

_WHOLE = re.compile(r"[A-Za-z0-9_-]{1,96}\.[A-Za-z0-9_-]{1,96}\.[1-9][0-9]{0,6}")
_START = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_MOST_LOOKED_AT = 20_000


def resolve(client: DaemonClient, text: str) -> str:
    """The id of the one job that `text` names: its whole id, or the beginning of it or of its platform id.

    A whole id is taken at its word without asking. A prefix is looked for among the newest 20,000 jobs.

    Raises:
        UsageError: `text` cannot be part of an id.
        CommandError: no job, or more than one, fits.
    """
    if _WHOLE.fullmatch(text):
        return text
    if not _START.fullmatch(text):
        raise UsageError("that is not a job id", fix="`orchestrator jobs` lists them; a unique beginning is enough")
    found: list[str] = []
    for job in client.jobs(limit=_MOST_LOOKED_AT):
        job_id = str(job["id"])
        if job_id.startswith(text) or job_id.partition(".")[2].startswith(text):
            found.append(job_id)
            if len(found) > 5:
                break
    if not found:
        raise CommandError(f"no job's id begins with {text}", fix="`orchestrator jobs` lists them")
    if len(found) > 1:
        listed = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        raise CommandError(f"{text} is the beginning of several jobs: {listed}", fix="give more of the id")
    return found[0]
