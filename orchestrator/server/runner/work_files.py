"""What goes out with a runner's work and is made only when the runner has claimed it: a registration, or secrets.

The binding is durable by then and the work goes out once, so a failure is tried again here, for a while, and then it
is the job's end: nobody would ever ask again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.journal.redact import Masker
from orchestrator.model.record import Record
from orchestrator.server.deps import WorkFiles

WORK_SECONDS = 15.0
"""How long the files may take to make, all tries together: less than an agent waits for the answer to its claim."""
MAX_FILES = 8
MAX_BYTES = 1 << 20
"""Of all files together."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MAX_TEXT = 1000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0

Abandon = Callable[[Record, str], Awaitable[None]]
"""End the job of a runner that is bound and will get no work; the text says why."""


async def made_files(record: Record, make: WorkFiles | None, masker: Masker, abandon: Abandon) -> Mapping[str, str]:
    """The files by name; their contents are known to the masker when this returns.

    Raises:
        GiveUpError: reason `work_unavailable`; the job's end is recorded.
    """
    if make is None:
        return {}
    limit = asyncio.timeout(WORK_SECONDS)
    try:
        async with limit:
            files = await _until_made(record, make)
        _check(files)
    except (OrchestratorError, TimeoutError) as error:
        late = isinstance(error, TimeoutError) and limit.expired()
        why = f"it was not made within {WORK_SECONDS:g} s" if late else str(error)
        await abandon(record, _plain(f"a part of the work cannot be had: {why}"))
        raise GiveUpError("A part of the work cannot be had.", reason="work_unavailable") from error
    for content in files.values():
        masker.register(record.id, content)
    return files


async def _until_made(record: Record, make: WorkFiles) -> Mapping[str, str]:
    pause = _FIRST_PAUSE
    while True:
        try:
            return await make(record)
        except TryAgainError as error:
            wait = max(error.retry_after_seconds or 0.0, pause)
            if wait > WORK_SECONDS:
                raise  # to wait is in vain, and the reason is worth more than a time-out
        await asyncio.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _plain(text: str) -> str:
    """What a fact can carry of another room's words."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def _check(files: Mapping[str, str]) -> None:
    """Agents write them by these names into a folder of their own."""
    size = sum(len(content.encode("utf-8", "surrogateescape")) for content in files.values())
    if len(files) > MAX_FILES or size > MAX_BYTES or not all(map(NAME.fullmatch, files)):
        raise GiveUpError(
            f"the work's files are not {MAX_FILES} at most, {MAX_BYTES} bytes at most, or have names that cannot be",
            reason="work_unavailable",
        )
