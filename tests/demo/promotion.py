"""`make demo-promotion`: from a commit to production through the gate, on this repository. See the README.

A CI platform (its tokens), a stand-in for GitHub (branches, pull requests), a tracker, an artifact store and a deploy
target run on loopback; cosign, which nobody here wrote, signs and judges. Each wrong turn on the way is tried and must
be refused by its name. Exit code 0 when everything went as it must.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from ci import Platform, PlatformApi
from gate_site import HEAD, REPOSITORY, Site, configuration, history
from machine import SANDBOX_UIDS, perform, running_daemon, told_left
from pipeline import console, deploy_target, served_repository
from release import Cosign
from residue import Residue
from store import artifact_store
from turns import Release

from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.ports import free_port
from orchestrator.testing.tracker import TrackerServer


async def demo(folder: Path) -> list[str]:
    """Run it all; what did not go as promised."""
    residue = Residue(folder, SANDBOX_UIDS)
    cosign = Cosign(folder / "release")
    port, gate_port = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        github = await stack.enter_async_context(GitHubServer(port=free_port()))
        tracker = await stack.enter_async_context(TrackerServer())
        session = await stack.enter_async_context(aiohttp.ClientSession())
        repository_id = history(github)
        tracker.add("REL-7", project="REL", type="Release")
        site = Site(
            folder=folder,
            port=port,
            gate_port=gate_port,
            git_port=await stack.enter_async_context(served_repository(folder)),
            store_port=await stack.enter_async_context(artifact_store(folder / "store")),
            target_port=await stack.enter_async_context(deploy_target(url)),
            github=github,
            tracker=tracker,
            cosign=cosign,
            platform=Platform(folder, REPOSITORY, repository_id, HEAD, "kim"),
        )
        daemon = await stack.enter_async_context(running_daemon(configuration(site), folder, residue))
        console.print(f"daemon: {url}, process {daemon.pid}; commit {HEAD[:12]} of {REPOSITORY}")
        api = PlatformApi(url, folder / "state" / "caller-token", session, console)
        api.platform = site.platform
        problems = await Release(site, api).run()
    if daemon.returncode:
        problems.append(f"the daemon ended with exit code {daemon.returncode}")
    return problems + told_left(residue)


if __name__ == "__main__":
    sys.exit(perform(demo))
