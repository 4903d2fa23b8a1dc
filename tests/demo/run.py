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
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from api import Api
from residue import OWN_PREFIX, Residue

from orchestrator.cli import output, render
from orchestrator.testing.otlp import OtlpReceiver

PROJECT = Path(__file__).resolve().parents[2]
JOBS = Path(__file__).parent / "jobs"
STAGING, PROD = "https://staging.deploy.example", "https://prod.deploy.example"
EXPECTED = {"build": "success", "curious": "success", "deploy-staging": "success", "deploy-prod": "denied"}
SANDBOX_UIDS = range(199_999, 265_536)
"""The gateway's and the sandboxes' users when the daemon runs as root: `host_uid_base` and what it derives from it."""
console = output.console()


class DemoError(Exception):
    """Why the demo cannot go on, for people."""


@asynccontextmanager
async def served_repository(folder: Path) -> AsyncIterator[int]:
    """A clone of HEAD over plain HTTP, as any static file server would offer it; its port."""
    bare = folder / "repository.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(PROJECT), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "repack", "-adq"], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    app = web.Application()
    app.router.add_static("/repository.git", bare)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


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


async def pipeline(api: Api, git_port: int, target_port: int, state: Path) -> list[dict]:
    build = {
        "name": "build",
        "pool": "build",
        "script": (JOBS / "build.sh").read_text(encoding="utf-8"),
        "environment": {
            "REPOSITORY_URL": f"http://git.demo.internal:{git_port}/repository.git",
            "TOOLCHAIN": sys.prefix,
        },
    }
    program = (JOBS / "curious.py").read_text(encoding="utf-8")
    curious = {
        "name": "curious",
        "pool": "closed",
        "script": f"cat > curious.py <<'PROGRAM'\n{program}\nPROGRAM\n"
        f"python3 curious.py '{Path.home()}' '{PROJECT}' '{state}'",
    }
    done = list(await asyncio.gather(api.run(build), api.run(curious)))
    wheel = next((one["digest"] for one in done[0]["artifacts"] if one["name"].endswith(".whl")), "")
    target = f"http://deploy.demo.internal:{target_port}"
    for environment, audience, other in (("staging", STAGING, PROD), ("prod", PROD, STAGING)):
        deploy = {
            "name": f"deploy-{environment}",
            "pool": "deploy",
            "script": (JOBS / "deploy.sh").read_text(encoding="utf-8"),
            "deployment_environment": environment,
            "artifact_digest": wheel,
            "environment": {
                "AUDIENCE": audience,
                "OTHER_AUDIENCE": other,
                "TARGET_URL": f"{target}/0",
                "OTHER_URL": f"{target}/1",
            },
        }
        done.append(await api.run(deploy))
    return done


async def report(api: Api, done: list[dict]) -> None:
    """For each job its waterfall, then decisions with reasons, tokens, egress verdicts and artifacts."""
    for job in done:
        console.print()
        console.rule(job["name"])
        console.print(render.waterfall(await api.call("GET", f"/v1/jobs/{job['id']}/trace")))
        console.print(render.job_detail(job))


@asynccontextmanager
async def deploy_target(issuer: str) -> AsyncIterator[int]:
    """The separate program that knows only the issuer's URL; its port."""
    program = Path(__file__).with_name("deploy_target.py")
    pipe = asyncio.subprocess.PIPE
    target = await asyncio.create_subprocess_exec(
        sys.executable, str(program), issuer, STAGING, PROD, stdin=pipe, stdout=pipe
    )
    assert target.stdin
    assert target.stdout
    try:
        yield int(await target.stdout.readline())
    finally:
        target.stdin.close()
        await target.wait()


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
            done = await pipeline(api, git_port, target_port, folder / "state")
            await report(api, done)
            problems = [
                f"{job['name']} ended {job['result']} ({job['message']})"
                for job in done
                if job["result"] != EXPECTED[job["name"]]
            ]
            problems += await ended_token(session, target_port)
        if daemon.returncode:
            problems.append(f"the daemon ended with exit code {daemon.returncode}")
        problems += tests_in_trace(receiver, done[0])
    left = residue.left()
    console.print("left behind: " + ("; ".join(left) if left else "no process, no mount, no control group, no file"))
    return problems + left


async def ended_token(session: aiohttp.ClientSession, target_port: int) -> list[str]:
    """Have the target judge the token again that it accepted while the job ran."""
    console.print()
    console.rule("the same token after its job's end")
    async with session.post(f"http://127.0.0.1:{target_port}/0/again") as answer:
        console.print((await answer.text()).strip())
        return [] if answer.status == 401 else ["the target still accepts the token of a job that has ended"]


def tests_in_trace(receiver: OtlpReceiver, build: dict) -> list[str]:
    """The spans of the build's own tests stand in its trace, below the span of the job's run."""
    spans = [
        (span, any(one.key == "orchestrator.untrusted" for one in resource.resource.attributes))
        for request in receiver.trace_requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.trace_id == bytes.fromhex(build["trace_id"])
    ]
    ours = {span.span_id for span, foreign in spans if not foreign}
    tests = [span for span, foreign in spans if foreign]
    tops = sum(span.parent_span_id in ours for span in tests)
    console.print(f"{len(tests)} spans of the build's own tests arrived in its trace, {tops} directly below the job's")
    return [] if tests and tops else ["no span of the tests arrived below the build's own"]


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
