"""A full disk below the state folder: intake stops with a clear answer, nothing acknowledged is lost, it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from installation import Answer, Installation, NotStartedError, broken_traces
from witness import GATE, Witness

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"
PADDING = "#" * 60_000
"""Makes an offer large, so that the disk is full soon."""

Full = Callable[[], AbstractContextManager[None]]


async def fill_by_jobs(here: Installation) -> Answer:
    """Dispatch jobs until one is refused; that answer. They wait behind the one that runs."""
    for number in range(400):
        body = here.body(f"big-{number}", GATED + PADDING)
        answer = await here.call("POST", "/v1/jobs", body, Idempotency_Key=f"big-{number}")
        if answer.status not in (200, 202):
            return answer
        if answer.status == 202:
            here.accepted.append(answer.body["id"])
    raise AssertionError("the disk never got full")


async def until_not_ready(here: Installation) -> Answer:
    """The answer of `/readyz` once the journal is found wanting: small facts may still have fitted in, of which each
    takes a page, and the journal looks by one whether it is well again."""
    async with asyncio.timeout(60):
        while (ready := await here.call("GET", "/readyz")).status != 503:
            await fill_by_jobs(here)
    return ready


async def until_named(here: Installation, job_id: str) -> dict[str, Any]:
    """What is said of why the job waits, once that names the disk; see `until_not_ready`."""
    async with asyncio.timeout(60):
        while "recorded now" not in (told := (await here.call("GET", f"/v1/jobs/{job_id}/why")).body)["sentence"]:
            await fill_by_jobs(here)
    return told


async def the_disk_gets_full(
    here: Installation,
    witness: Witness,
    receiver: OtlpReceiver,
    full: Full,
    restart: Callable[[], Any] | None,
    wanting: tuple[str, ...],
) -> None:
    """One of `wanting` finds it first: on one disk it is chance whose next page finds no room."""
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    with full():
        refusal = await fill_by_jobs(here)
        assert refusal.status == 503
        assert refusal.body["reason"] in [f"{name}_unavailable" for name in wanting]
        assert "free space" in refusal.body["fix"]
        assert "Retry-After" in refusal.headers
        ready = await until_not_ready(here)
        assert any(ready.body["checks"][name] != "ok" for name in wanting)
        assert (await here.job(running))["phase"] == "running", "reading goes on"
        for job_id, lead in ((running, "The job is running as far"), (here.accepted[-1], "The job cannot go on")):
            told = await until_named(here, job_id)
            assert told["sentence"].startswith(lead)
            assert told["next_step"].startswith("Operators: free space on the file system of")
            assert told["reason"] in [f"{name}_unavailable" for name in wanting]
        listed = (await here.call("GET", "/v1/jobs?limit=200")).body["jobs"]
        assert {line["id"] for line in listed} == set(here.accepted), "what was refused is not there"
        witness.open_gate()
        await witness.told(running, "done")
        if restart:
            await restart()
    while (await here.call("GET", "/readyz")).status != 200:
        await asyncio.sleep(0.05)
    views = [await here.finished(job_id) for job_id in here.accepted]
    ended = {view["id"]: (view["result"], view["reason"]) for view in views}
    honest = {("success", "completed")} | ({("error", "runner_lost")} if restart else set())
    assert set(ended.values()) <= honest
    for job_id, (result, _) in ended.items():
        words = witness.words(job_id)
        assert words == ["started", GATE, "done"] or (result == "error" and words == ["started", GATE][: len(words)])
    again = await here.dispatch(f"big-{len(here.accepted) - 1}", GATED + PADDING)
    assert again not in ended, "the refused one was not taken in, and its retry is"
    views.append(await here.finished(again))
    assert await broken_traces(receiver, views) == []
    assert await here.stop() == 0
    assert await here.broken_promises() == []


async def test_a_file_size_limit(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    """As a full disk is to the journal, but for every user: the kernel refuses to let its files grow."""
    await here.start()
    assert here.process is not None
    pid = here.process.pid

    @contextlib.contextmanager
    def full() -> Iterator[None]:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        largest = max(path.stat().st_size for path in here.state.glob("journal.db*"))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 400_000, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)

    await the_disk_gets_full(here, witness, receiver, full, None, ("journal",))


@pytest.fixture
async def small_disk(here: Installation) -> AsyncIterator[Installation]:
    """The installation, its state folder on a file system of 32 MB in a mount namespace that goes with the test."""
    if not shutil.which("nsenter") or not shutil.which("unshare"):
        pytest.skip("needs unshare(1) and nsenter(1)")
    here.state.mkdir(mode=0o700)
    script = f"mount -t tmpfs -o size=32m,mode=0700 none {here.state} && echo mounted && exec sleep 300"
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdout=subprocess.PIPE
    )
    assert holder.stdout
    try:
        if holder.stdout.readline() != b"mounted\n":
            pytest.skip("this machine forbids mounts in a mount namespace of one's own")
        here.prefix = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        here.root = Path(f"/proc/{holder.pid}/root")
        yield here
        await here.close()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"b" * 4096)
    return ballast


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["lives on", "killed meanwhile"])
async def test_a_full_file_system(
    *, killed: bool, small_disk: Installation, witness: Witness, receiver: OtlpReceiver
) -> None:
    here = small_disk
    await here.start()
    state = here.seen(here.state)

    @contextlib.contextmanager
    def full() -> Iterator[None]:
        ballast = state / "ballast"
        ballast.write_bytes(b"b" * 29_000_000)
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)

    async def restart() -> None:
        await here.kill()  # which gives back what it had open
        ballast = fill(state)
        with pytest.raises(NotStartedError) as refusal:
            await here.start()
        assert refusal.value.code == 1
        assert "space" in refusal.value.said, refusal.value.said
        assert "Traceback" not in refusal.value.said
        ballast.unlink()
        await here.start()

    await the_disk_gets_full(here, witness, receiver, full, restart if killed else None, ("journal", "audit"))
