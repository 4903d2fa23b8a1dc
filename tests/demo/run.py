"""`make demo`: the main job, end to end, on this machine. See the README for what it shows.

Starts the daemon, a git server over a clone of this repository's HEAD, a deploy target and a trace receiver, all on
loopback; dispatches the pipeline; prints what happened to each job; proves that nothing is left. Exit code 0 when
every job ended as it must.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from api import Api
from pipeline import (
    PROD,
    STAGING,
    DemoError,
    console,
    deploy_target,
    ended_token,
    pipeline,
    report,
    served_repository,
    tests_in_trace,
    unexpected,
)
from residue import OWN_PREFIX, Residue

from orchestrator.testing.otlp import OtlpReceiver

SANDBOX_UIDS = range(199_999, 265_536)
"""The gateway's and the sandboxes' users when the daemon runs as root: `host_uid_base` and what it derives from it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(folder: Path, git_port: int, target_port: int, otlp: str, port: int) -> Path:
    http = {"protocol": "http"}
    toolchain = sorted({sys.prefix, sys.base_prefix})
    document = {
        "state_dir": str(folder / "state"),
        "server": {"port": port},
        "identity": {"audiences": {STAGING: {}, PROD: {}}},
        "telemetry": {"otlp_endpoint": otlp},
        "egress": {"names": {"git.demo.internal": "127.0.0.1", "deploy.demo.internal": "127.0.0.1"}},
        "pools": [
            {
                "name": "build",
                "egress": [{"host": "git.demo.internal", "port": git_port, **http}],
                "sandbox": {"toolchain": toolchain},
            },
            {"name": "deploy", "egress": [{"host": "deploy.demo.internal", "port": target_port, **http}]},
            {"name": "closed", "trust_tier": "untrusted"},
        ],
    }
    path = folder / "orchestrator.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


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
        if daemon.returncode is None:
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


async def demo(folder: Path) -> list[str]:
    """Run it all; what did not go as promised."""
    residue = Residue(folder, SANDBOX_UIDS)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        served_repository(folder) as git_port,
        deploy_target(url) as target_port,
        OtlpReceiver() as receiver,
        aiohttp.ClientSession() as session,
    ):
        config = configuration(folder, git_port, target_port, receiver.endpoint, port)
        async with running_daemon(config, folder, residue) as daemon:
            console.print(f"daemon: {url}, process {daemon.pid}")
            api = Api(url, folder / "state" / "caller-token", session, console)
            done = await pipeline(api, git_port, target_port, folder / "state", sys.prefix)
            await report(api, done)
            problems = unexpected(done)
            problems += await ended_token(session, target_port)
        if daemon.returncode:
            problems.append(f"the daemon ended with exit code {daemon.returncode}")
        problems += tests_in_trace(receiver, done[0])
    left = residue.left()
    console.print("left behind: " + ("; ".join(left) if left else "no process, no mount, no control group, no file"))
    return problems + left


def main() -> int:
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


if __name__ == "__main__":
    sys.exit(main())
