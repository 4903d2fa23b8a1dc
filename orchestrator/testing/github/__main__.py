"""The test server by hand: `python -m orchestrator.testing.github --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from orchestrator.testing.github.model import Flavour, JobPlan, Options
from orchestrator.testing.github.runner_folder import lay_out
from orchestrator.testing.github.server import GitHubServer

_SYSTEM_PYTHON = "/usr/bin/python3"
_SAMPLE = ('echo "Hello from $RUNNER_NAME: job $GITHUB_JOB of run $GITHUB_RUN_ID"', "sleep 1", "echo done")


def _python() -> str:
    """Sandboxes see all of `/usr`, and this interpreter perhaps not."""
    return _SYSTEM_PYTHON if os.access(_SYSTEM_PYTHON, os.X_OK) else sys.executable


def parser() -> argparse.ArgumentParser:
    """Every option of the command."""
    made = argparse.ArgumentParser(prog="python -m orchestrator.testing.github", description=__doc__)
    made.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; anybody who reaches it may do anything"
    )
    made.add_argument("--port", type=int, default=0, help="0 takes a free one")
    made.add_argument("--runner-url", default="", help="how runner programs reach the server, if not by its own URL")
    made.add_argument("--ghes", action="store_true", help="speak as GitHub Enterprise Server does")
    made.add_argument("--repository", default="acme/shop", help="owner/name; its branch main is protected")
    made.add_argument("--label", default="zt", help="runs-on of the sample jobs")
    made.add_argument("--jobs", type=int, default=0, help="sample jobs to start")
    made.add_argument("--token-file", type=Path, help="write a personal token there")
    made.add_argument("--key-file", type=Path, help="write the app's private key there")
    made.add_argument("--runner-folder", type=Path, help="lay the runner program out there, as run.sh")
    made.add_argument("--runner-python", default=_python(), help="what runs it in the sandbox [%(default)s]")
    return made


async def serve(chosen: argparse.Namespace) -> None:
    """Until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    options = Options(flavour=Flavour.GHES if chosen.ghes else Flavour.HOSTED)
    server = GitHubServer(options, host=chosen.host, port=chosen.port, runner_url=chosen.runner_url, control=True)
    async with server:
        server.add_repository(chosen.repository, branches={"main": True})
        if chosen.jobs:
            plans = [JobPlan(f"sample-{number}", (chosen.label,), _SAMPLE) for number in range(chosen.jobs)]
            server.dispatch_workflow(chosen.repository, plans)
        tell(server, chosen)
        await stop.wait()


def tell(server: GitHubServer, chosen: argparse.Namespace) -> None:
    """What a client is configured with; secrets go to files only."""
    app, owner = server.app, chosen.repository.partition("/")[0]
    lines = [
        f"url           {server.url}",
        f"scale sets    {server.config_url(owner)}",
        f"app           client_id={app.client_id} installation_id={app.installation_id}",
        f"control       {server.url}/_control/state",
    ]
    for path, secret in ((chosen.token_file, server.personal_token), (chosen.key_file, app.private_key)):
        if path is not None:
            _write_secret(path, secret)
            lines.append(f"written       {path}")
    if chosen.runner_folder is not None:
        lines.append(f"runner        {lay_out(chosen.runner_folder.resolve(), chosen.runner_python)}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    asyncio.run(serve(parser().parse_args()))
