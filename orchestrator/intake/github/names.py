"""Names that tie GitHub's things to ours: registered runners to our runners, assigned jobs to records. Pure.

Each name follows from what it names, so that a daemon that was killed finds everything again without a note.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

from orchestrator.intake.github.scale_sets.messages import JobMessage
from orchestrator.model.job import JobKey
from orchestrator.model.runner import RunnerName

MAX_REGISTRATIONS: Final = 3
"""How many names one runner may try to register under; each is used at most once, ever."""

_REGISTERED = re.compile(r"(runner-[0-9a-f]{24})-[a-z2-7]{4}")
_PLAIN_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def registered_name(runner: RunnerName, attempt: int) -> str:
    """The name that a runner registers under at GitHub at its `attempt`-th try (from 1).

    Raises:
        ValueError: there is no such try.
    """
    if not 1 <= attempt <= MAX_REGISTRATIONS:
        raise ValueError(f"a runner registers at most {MAX_REGISTRATIONS} times")
    digest = hashlib.sha256(f"{runner}/{attempt}".encode()).digest()
    return f"{runner}-{base64.b32encode(digest)[:4].decode().lower()}"


def registered_names(runner: RunnerName) -> tuple[str, ...]:
    """Every name that this runner can ever be registered under."""
    return tuple(registered_name(runner, attempt) for attempt in range(1, MAX_REGISTRATIONS + 1))


def runner_of(registered: str) -> RunnerName | None:
    """Our runner behind a name at GitHub; None for a name that we never give."""
    match = _REGISTERED.fullmatch(registered)
    if match is None:
        return None
    runner = RunnerName(match[1])
    return runner if registered in registered_names(runner) else None


def job_ref(job: JobMessage) -> str:
    """What tells a job from others in one scale set: its id, or the number that it is acquired by."""
    return job.job_id or f"request-{job.request_id}"


def ref_of_key(key: JobKey) -> str:
    """The job that demanded the runner of this key; empty for a filler. What had an unusual id is told by its hash."""
    ref, _, _ = key.platform_id.rpartition("-")
    return "" if key.platform_id.startswith("count-") else ref


def demand_key(source: str, job: JobMessage) -> JobKey:
    """The key of the runner that an assigned job demands: one for each assignment, for GitHub assigns a job again when
    no runner took it in time."""
    named = job_ref(job)
    plain = named if _PLAIN_ID.fullmatch(named) else hashlib.sha256(named.encode()).hexdigest()[:32]
    return JobKey(source, f"{plain}-{_base36((job.assigned_at_ns or 0) // 1_000_000)}")


def filler_key(source: str) -> JobKey:
    """A new key, for a runner that is demanded by the service's count alone."""
    return JobKey(source, f"count-{secrets.token_hex(8)}")


def _base36(number: int) -> str:
    number = max(number, 0)
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits
