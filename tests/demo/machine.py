"""The daemon on this machine, for the demos: started, watched, drained, and what it left told."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipeline import DemoError, console
from residue import OWN_PREFIX, Residue

SANDBOX_UIDS = range(199_999, 265_536)
"""The gateway's and the sandboxes' users when the daemon runs as root: `host_uid_base` and what it derives from it."""


@asynccontextmanager
async def running_daemon(config: Path, folder: Path, residue: Residue) -> AsyncIterator[asyncio.subprocess.Process]:
    """The daemon, ready; drained and gone afterwards.

    Raises:
        DemoError: it did not start; with its own words.
    """
    with (folder / "daemon.log").open("wb") as log:
        daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "orchestrator", "run", "--config", str(config), stderr=log, start_new_session=True
        )
    watching = asyncio.create_task(watch(residue, daemon.pid))
    try:
        async with asyncio.timeout(60):
            while not (folder / "state" / "daemon.json").exists():
                if daemon.returncode is not None:
                    raise DemoError((folder / "daemon.log").read_text(encoding="utf-8").strip())
                await asyncio.sleep(0.05)
        yield daemon
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended meanwhile
            daemon.terminate()
            if sys.exc_info()[0]:
                await asyncio.sleep(0.2)
                daemon.terminate()  # a second time: do not wait for running jobs
        await daemon.wait()
        watching.cancel()


async def watch(residue: Residue, daemon: int) -> None:
    while True:
        residue.watch(daemon)
        await asyncio.sleep(0.1)


def told_left(residue: Residue) -> list[str]:
    """Say what is left on the machine, and return it."""
    left = residue.left()
    console.print("left behind: " + ("; ".join(left) if left else "no process, no mount, no control group, no file"))
    return left


def perform(demo: Callable[[Path], Coroutine[Any, Any, list[str]]]) -> int:
    """Run a demo in a folder of its own, which goes with it; the exit code is 0 when all went as promised."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=OWN_PREFIX))
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # both unwind, so that nothing is left behind
    try:
        problems = asyncio.run(demo(folder))
    except DemoError as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["interrupted"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        console.print(f"problem: {problem}", style="bold red")
    console.print(f"{'all as promised' if not problems else 'not as promised'}, {time.monotonic() - begun:.1f} s")
    return 1 if problems else 0
