"""Two daemons on one machine: never on one state folder, always on two."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from installation import Installation, NotStartedError
from witness import Witness

pytestmark = pytest.mark.sandbox


def digests(folder: Path) -> dict[str, str]:
    """What is in the folder, without what the first daemon changes meanwhile: memory that SQLite's readers share, its
    log of decisions, which is written a while after them, and the scores that it keeps by the clock."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix != ".db-shm"
        and path.parent.name != "decisions"
        and path.name != "scores.json"
    }


async def test_a_state_folder_has_one_daemon(installed: Callable[..., Installation], witness: Witness) -> None:
    first = installed(audit={"checkpoint_seconds": 3600})  # what it writes by the clock is not what is looked for
    await first.start()
    job_id = await first.dispatch("job", "visit started; visit gate; visit done")
    await witness.told(job_id, "gate")
    await first.until(job_id, lambda view: any(not one["canary"] for one in view["egress"]))  # the last fact for now
    before = digests(first.state)

    second = installed(state_dir=str(first.state))
    with pytest.raises(NotStartedError) as refusal:
        await second.start()
    assert refusal.value.code == 1
    assert "[journal_in_use]" in refusal.value.said
    assert first.process is not None
    assert f"pid {first.process.pid}" in refusal.value.said
    assert "a state folder of its own" in refusal.value.said, "the way out is named"
    assert digests(first.state) == before, "and it changed nothing"

    # The same configuration once more, as by a second unit file: here it is the port that is taken.
    again = installed(state_dir=str(first.state), server={"port": first.port})
    with pytest.raises(NotStartedError) as refusal:
        await again.start()
    assert refusal.value.code == 1
    assert str(first.port) in refusal.value.said
    assert re.search(r"fix|stop|another", refusal.value.said)
    assert digests(first.state) == before

    witness.open_gate()
    assert (await first.finished(job_id))["result"] == "success"
    assert await first.stop() == 0
    assert await first.broken_promises() == []


@pytest.mark.slow
async def test_two_state_folders_live_side_by_side(installed: Callable[..., Installation], witness: Witness) -> None:
    one, other = installed(), installed()
    await asyncio.gather(one.start(), other.start())
    witness.open_gate()
    first = await one.dispatch("job", "visit started; visit done")
    second = await other.dispatch("job", "visit started; visit gate; visit done")
    assert first != second, "the same idempotency key of another daemon's caller is another job"
    assert (await one.finished(first))["result"] == "success"
    await one.kill()
    assert await one.left() == []
    assert (await other.finished(second))["result"] == "success", "the neighbour's end is nothing to it"
    assert await other.stop() == 0
    history = await one.history() | await other.history()
    assert {first, second} == history.keys()
