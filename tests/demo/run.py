"""`make demo`: the main job, end to end, on this machine. See the README for what it shows.

Starts the daemon, a git server over a clone of this repository's HEAD, a deploy target and a trace receiver, all on
loopback; dispatches the pipeline; prints what happened to each job; proves that nothing is left. Exit code 0 when
every job ended as it must.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from residue import Residue
from rich.console import Console

from orchestrator.cli.render import jobs as shown
from orchestrator.cli.render import waterfall as traces
from orchestrator.testing.otlp import OtlpReceiver

PROJECT = Path(__file__).resolve().parents[2]
JOBS = Path(__file__).parent / "jobs"
STAGING, PROD = "https://staging.deploy.example", "https://prod.deploy.example"
EXPECTED = {"build": "success", "curious": "success", "deploy-staging": "success", "deploy-prod": "denied"}
console = Console()


async def serve_repository(folder: Path) -> tuple[web.AppRunner, int]:
    """A clone of HEAD over plain HTTP, as any static file server would offer it."""
    bare = folder / "repository.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(PROJECT), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    app = web.Application()
    app.router.add_static("/repository.git", bare)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


def free_port() -> int:
    import socket

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


class Api:
    def __init__(self, url: str, token_file: Path, session: aiohttp.ClientSession) -> None:
        self.url, self.token_file, self.session = url, token_file, session

    async def call(self, method: str, path: str, body: dict | None = None) -> dict:
        headers = {"Authorization": f"Bearer {self.token_file.read_text(encoding='utf-8')}"}
        if body is not None:
            headers["Idempotency-Key"] = f"demo-{body['name']}"
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            document = await answer.json()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {json.dumps(document)}")
        return document

    async def run(self, body: dict) -> dict:
        """Dispatch and follow to the end, a line for each phase."""
        job = await self.call("POST", "/v1/jobs", {"pipeline": "demo", **body})
        begun, phase = time.monotonic(), ""
        while job["phase"] != "finished":
            if job["phase"] != phase:
                phase = job["phase"]
                console.print(f"  {time.monotonic() - begun:6.2f} s  [bold]{body['name']:<15}[/] {phase}")
            await asyncio.sleep(0.05)
            job = await self.call("GET", f"/v1/jobs/{job['id']}")
        console.print(
            f"  {time.monotonic() - begun:6.2f} s  [bold]{body['name']:<15}[/] {job['result']}: {job['reason']}"
        )
        return job

    async def log(self, job_id: str) -> str:
        headers = {"Authorization": f"Bearer {self.token_file.read_text(encoding='utf-8')}"}
        async with self.session.get(f"{self.url}/v1/jobs/{job_id}/log", headers=headers) as answer:
            return (await answer.text()).rstrip()


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
    for job in done:
        console.rule(f"[bold]{job['name']}")
        console.print(await api.log(job["id"]), markup=False, highlight=False)
        console.print()
        console.print(traces.waterfall(await api.call("GET", f"/v1/jobs/{job['id']}/trace")))
        console.print(shown.job_detail(job))


async def demo(folder: Path) -> list[str]:
    problems: list[str] = []
    residue = Residue(folder)
    port = free_port()
    repository, git_port = await serve_repository(folder)
    target = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("deploy_target.py")), f"http://127.0.0.1:{port}", STAGING, PROD,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert target.stdout
    assert target.stdin
    target_port = int(await target.stdout.readline())
    state = folder / "state"
    async with OtlpReceiver() as receiver, aiohttp.ClientSession() as session:
        config = configuration(folder, git_port, target_port, receiver.endpoint, port)
        with (folder / "daemon.log").open("wb") as log:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "orchestrator", "run", "--config", str(config), stderr=log, start_new_session=True
            )
        try:
            while not (state / "daemon.json").exists():
                if daemon.returncode is not None:
                    return [(folder / "daemon.log").read_text(encoding="utf-8").strip()]
                await asyncio.sleep(0.05)
            console.print(f"daemon: http://127.0.0.1:{port}, process {daemon.pid}")
            api = Api(f"http://127.0.0.1:{port}", state / "caller-token", session)
            watching = asyncio.create_task(watch(residue, daemon.pid))
            done = await pipeline(api, git_port, target_port, state)
            watching.cancel()
            await report(api, done)
            problems += [
                f"{job['name']} ended {job['result']} ({job['message']})"
                for job in done
                if job["result"] != EXPECTED[job["name"]]
            ]
            async with session.post(f"http://127.0.0.1:{target_port}/0/again") as answer:
                console.rule("[bold]the token after its job's end")
                console.print((await answer.text()).strip(), highlight=False)
                if answer.status != 401:
                    problems.append("the target still accepts the token of a job that has ended")
        finally:
            if daemon.returncode is None:
                daemon.terminate()
            code = await daemon.wait()
            target.stdin.close()
            await target.wait()
            await repository.cleanup()
        if code:
            problems.append(f"the daemon ended with exit code {code}")
        tests = sum(bytes.fromhex(done[0]["trace_id"]) == span.trace_id for span in job_spans(receiver))
        console.print(f"{tests} spans of the build's own tests arrived under its job span")
        if not tests:
            problems.append("no span of the tests arrived in the build's trace")
    left = residue.left()
    console.print("left behind: " + ("; ".join(left) if left else "no process, no mount, no control group, no file"))
    return problems + left


def job_spans(receiver: OtlpReceiver) -> list:
    return [
        span
        for request in receiver.trace_requests
        for resource in request.resource_spans
        if any(one.key == "orchestrator.untrusted" for one in resource.resource.attributes)
        for scope in resource.scope_spans
        for span in scope.spans
    ]


async def watch(residue: Residue, daemon: int) -> None:
    while True:
        residue.watch(daemon)
        await asyncio.sleep(0.1)


def main() -> int:
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    try:
        problems = asyncio.run(demo(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        console.print(f"[bold red]problem:[/] {problem}", highlight=False)
    console.print(f"{'all as promised' if not problems else 'not as promised'}, {time.monotonic() - begun:.1f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
