"""`make demo-github`: jobs of GitHub Actions on this machine, without GitHub. See docs/how-to/try-without-github.md.

Starts the test server that stands in for GitHub, and the daemon with a scale set on local sandboxes; dispatches a
workflow with a job that deploys and one that only tests, and another from a branch that must not deploy; prints what
GitHub would show of each, then what the daemon knows; proves that nothing is left. Exit code 0 when all went well.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import aiohttp
import yaml
from api import Api
from machine import SANDBOX_UIDS, perform, running_daemon, told_left
from pipeline import DemoError, console
from residue import Residue

from orchestrator.testing.github.model import Job, JobPlan, Run, Step
from orchestrator.testing.github.runner_folder import lay_out
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.ports import free_port

HOST, SET, AUDIENCE = "github.demo.internal", "demo", "https://deploy.example"
POLICY = Path(__file__).with_name("github_policy")
PYTHON = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else os.path.realpath(sys.executable)
SECONDS = 60
JOB_ID = re.compile(r"^job (acme\.\S+\.1)\b", re.MULTILINE)

CLAIMS = """orchestrator-token --audience https://deploy.example | python3 -c '
import base64, json, sys
part = sys.stdin.read().split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(part + "=="))
print("a token that says:", {name: claims[name] for name in ("aud", "sub", "environment") if name in claims})'"""
NO_TOKEN = 'orchestrator-token --audience https://deploy.example || echo "no token, as it must be"'

DEPLOY = JobPlan("deploy", (SET,), ('echo "job $ORCHESTRATOR_JOB_ID"', CLAIMS), environment="staging", id_token=True)
TEST = JobPlan("test", (SET,), ('echo "testing $GITHUB_REPOSITORY at $GITHUB_REF"', NO_TOKEN))
DENIED = JobPlan(
    "deploy-topic", (SET,), ('echo "this never runs"', Step(NO_TOKEN, condition="always")),
    environment="staging", id_token=True,
)  # fmt: skip

EXPECTED = {
    "deploy": ("success", "a token that says"),
    "test": ("success", "only_staging_gets_tokens"),
    "deploy-topic": ("failure", "::error title=denied by policy::environments are for the protected branch main"),
}
"""Of each job: its conclusion at GitHub, and what its log must have."""


def configuration(folder: Path, github: GitHubServer, port: int) -> Path:
    host = {"host": HOST, "port": github.port, "protocol": "http"}
    key = folder / "app.pem"
    key.touch(mode=0o600)
    key.write_text(github.app.private_key, encoding="ascii")
    run_sh = lay_out(folder / "runner", PYTHON)
    toolchain = [str(run_sh.parent)]
    if not PYTHON.startswith("/usr/"):
        toolchain.append(sys.base_prefix)
    app = {"client_id": github.app.client_id, "installation_id": github.app.installation_id}
    document = {
        "state_dir": str(folder / "state"),
        "server": {"port": port},
        "policy": {"bundle": str(POLICY)},
        "identity": {"audiences": {AUDIENCE: {}}},
        "egress": {"names": {HOST: "127.0.0.1"}},
        "pools": [{"name": "default", "egress": [host], "sandbox": {"toolchain": toolchain}}],
        "github": [
            {
                "name": "acme",
                "url": github.config_url("acme"),
                "app": {**app, "private_key_file": str(key)},
                "hosts": [host],
                "scale_sets": [{"name": SET, "pool": "default", "runner_command": [str(run_sh)]}],
            }
        ],
    }
    path = folder / "orchestrator.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


async def workflow(github: GitHubServer) -> list[Job]:
    """Dispatch all, wait for the end; the jobs as GitHub has them."""
    shop = "acme/shop"
    runs: list[Run] = [
        github.dispatch_workflow(shop, [DEPLOY, TEST]),
        github.dispatch_workflow(shop, [DENIED], ref="refs/heads/topic"),
    ]
    console.print(f"{shop}: a run of main with the jobs deploy and test, a run of topic with the job deploy-topic")
    try:
        await github.until(lambda: all(run.done for run in runs), SECONDS)
    except TimeoutError:
        raise DemoError(f"GitHub's jobs did not end within {SECONDS} s") from None
    return [job for run in runs for job in run.jobs]


def shown(job: Job) -> list[str]:
    """Print what GitHub's page of the job would show; what is wrong with it."""
    console.print()
    console.rule(f"at GitHub: {job.plan.name}, {job.conclusion}")
    console.print(job.log.strip(), markup=False, highlight=False, soft_wrap=True)
    conclusion, words = EXPECTED[job.plan.name]
    problems = [] if job.conclusion == conclusion else [f"{job.plan.name} ended as {job.conclusion} at GitHub"]
    problems += [] if words in job.log else [f"the log of {job.plan.name} does not say {words!r}"]
    return problems + (["a denied job's step ran"] if "this never runs\n" in job.log else [])


async def finished(api: Api, ids: list[str]) -> None:
    """Wait until the daemon is done with these jobs, each of which it must know."""
    async with asyncio.timeout(SECONDS):
        for job_id in ids:
            while (await api.call("GET", f"/v1/jobs/{job_id}"))["phase"] != "finished":
                await asyncio.sleep(0.05)


async def command(folder: Path, *words: str) -> None:
    """Do and show a command as a user would."""
    console.print()
    console.rule(f"orchestrator {' '.join(words)}")
    variables = {**os.environ, "ORCHESTRATOR_STATE_DIR": str(folder / "state"), "COLUMNS": str(console.width)}
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *words, env=variables, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await done.communicate()
    console.print(output.decode().rstrip(), markup=False, highlight=False, soft_wrap=True)
    if done.returncode:
        raise DemoError(f"orchestrator {words[0]} ended with exit code {done.returncode}")


async def demo(folder: Path) -> list[str]:
    """Run it all; what did not go as promised."""
    residue = Residue(folder, SANDBOX_UIDS)
    ports = free_port(), free_port()
    github = GitHubServer(port=ports[0], runner_url=f"http://{HOST}:{ports[0]}")
    async with github, aiohttp.ClientSession() as session:
        github.add_repository("acme/shop", branches={"main": True, "topic": False})
        config = configuration(folder, github, ports[1])
        url = f"http://127.0.0.1:{ports[1]}"
        async with running_daemon(config, folder, residue) as daemon:
            console.print(f"stand-in for GitHub: {github.url}; daemon: {url}, process {daemon.pid}")
            jobs = await workflow(github)
            problems = [problem for job in jobs for problem in shown(job)]
            ids = [found[1] for job in jobs if (found := JOB_ID.search(job.log))]
            problems += [] if len(ids) == len(jobs) else ["a job's log does not say which job it is here"]
            await finished(Api(url, folder / "state" / "caller-token", session, console), ids)
            await command(folder, "jobs")
            for job_id in ids:
                await command(folder, "trace", job_id)
            await command(folder, "sources")
        if daemon.returncode:
            problems.append(f"the daemon ended with exit code {daemon.returncode}")
        if github.state.runners:
            problems.append(f"{len(github.state.runners)} registrations are left at GitHub")
    console.print()
    return problems + told_left(residue)


if __name__ == "__main__":
    sys.exit(perform(demo))
