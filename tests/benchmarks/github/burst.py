"""A thousand jobs of GitHub Actions queued in one burst, run in sandboxes by the daemon as it is by default.

The daemon (`orchestrator run`, one scale set) really runs each: message queue, engine, policy, sandbox, claim with its
registration, the stand-in for GitHub's runner program behind the gateway, its hook, and the end by GitHub's word. Every
other job has a token of its own (`id-token: write`), so that both ways of proof are measured. None may be lost and none
may run twice: judged from the server's record, from the journal by the promise checker, and from both together. Calls
to GitHub are counted where they arrive.

The floor is the runner program alone, as many at once: registered for free, no sandbox, gateway, hook, policy, journal.

    python tests/benchmarks/github/burst.py [jobs] [at once]
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from arena import LABEL, ORG, REPOSITORY, STEP, Daemon, Platform, send
from cluster import write
from verdict import Figures, figures_of, judge

from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.routes_service import jit_blob
from orchestrator.testing.github.runner_folder import lay_out

HOST = "github.test.example"
BARE = 100
"""Jobs of a round of the floor."""
MEBI = 1 << 20
PYTHON = os.path.realpath(sys.executable)


def daemon_of(folder: Path, platform: Platform, capacity: int) -> Daemon:
    hosts = [{"host": HOST, "port": platform.server.port, "protocol": "http"}]
    run_sh = lay_out(folder / "runner", PYTHON)
    small = {"workspace_bytes": 8 * MEBI, "tmp_bytes": 8 * MEBI, "shm_bytes": MEBI}
    toolchain = [str(Path(PYTHON).parents[1]), str(run_sh.parent)]
    pool = {"name": "default", "capacity": capacity, "egress": hosts, "sandbox": {**small, "toolchain": toolchain}}
    document = {"pools": [pool], "egress": {"names": {HOST: "127.0.0.1"}}}
    one = {"name": LABEL, "pool": "default", "runner_command": [str(run_sh)]}
    return Daemon(folder, platform, document, {"hosts": hosts, "scale_sets": [one]})


class Bare:
    """The floor: runner programs without anything around them."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self._state = platform.server.state
        self._platform = platform
        self._run_sh = lay_out(folder / "bare", PYTHON)
        self._folder = folder
        self._numbers = 0

    async def round(self, jobs: int, at_once: int) -> tuple[float, float]:
        """Jobs a second, and processor seconds for each."""
        plans = [JobPlan(f"bare {number}", ("bare",), (STEP,)) for number in range(jobs)]
        made = self._platform.server.dispatch_workflow(REPOSITORY, plans)
        numbers = iter(range(jobs))
        wall, cpu = time.perf_counter(), _children()

        async def lane() -> None:
            for _ in numbers:
                await self._one()

        await asyncio.gather(*(lane() for _ in range(at_once)))
        wall, cpu = time.perf_counter() - wall, _children() - cpu
        assert all(job.result == "succeeded" for job in made.jobs), made.jobs[0].log
        return jobs / wall, cpu / jobs

    async def _one(self) -> None:
        self._numbers += 1
        runner = self._state.register(
            ORG, f"bare-{self._numbers}", labels=("bare",), group_id=1, work_folder="_work", one=None
        )
        home = self._folder / f"home-{self._numbers}"
        home.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "RUNNER_ALLOW_RUNASROOT": "1",
            "ACTIONS_RUNNER_INPUT_JITCONFIG": jit_blob(runner, self._platform.server.url),
        }
        process = await asyncio.create_subprocess_exec(
            str(self._run_sh), cwd=home, env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def measure(folder: Path, platform: Platform, jobs: int, at_once: int) -> Figures:
    bare, daemon = Bare(platform, folder), daemon_of(folder, platform, at_once)
    floors = [await bare.round(min(jobs, BARE), at_once)]
    try:
        await daemon.start()
        burst = await send(platform, daemon, jobs, at_once)
        code = daemon.end()
    finally:
        daemon.end()
    assert code == 0, f"the daemon ended with {code}\n{daemon.last_words()}"
    floors.append(await bare.round(min(jobs, BARE), at_once))
    rate, cpu = (sum(values) / len(floors) for values in zip(*floors, strict=True))
    verdict = await judge(daemon.state, [*burst.alone, *burst.many], platform.server)
    return figures_of(burst, verdict, rate, cpu)


async def main(jobs: int, at_once: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-github-") as name:
        Path(name).chmod(0o755)
        platform = Platform(HOST)
        async with platform.server:
            return await measure(Path(name), platform, jobs, at_once)


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    write("github_burst", uvloop.run(main(*(arguments + [1000, 16][len(arguments) :]))))
