"""`make demo`: the main job, end to end, on this machine. See the README for what it shows.

Starts the daemon, a git server over a clone of this repository's HEAD, a deploy target and a trace receiver, all on
loopback; dispatches the pipeline; prints what happened to each job; proves that nothing is left. Exit code 0 when
every job ended as it must.
"""

from __future__ import annotations

import sys
from pathlib import Path

import aiohttp
import yaml
from api import Api
from machine import SANDBOX_UIDS, perform, running_daemon, told_left
from pipeline import (
    PROD,
    STAGING,
    console,
    deploy_target,
    ended_token,
    offline,
    pipeline,
    receipts,
    report,
    served_repository,
    tests_in_trace,
    unexpected,
)
from residue import Residue

from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.ports import free_port


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
            problems += await receipts(api, done, folder)
        if daemon.returncode:
            problems.append(f"the daemon ended with exit code {daemon.returncode}")
        problems += await offline(folder, "deploy-staging")
        problems += tests_in_trace(receiver, done[0])
    return problems + told_left(residue)


if __name__ == "__main__":
    sys.exit(perform(demo))
