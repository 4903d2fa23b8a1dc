"""The demo's pipeline and its judges, wherever the runners live."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from api import Api

from orchestrator.cli import output, render
from orchestrator.cli.render.words import between
from orchestrator.evidence.receipts.judging import judge
from orchestrator.evidence.receipts.signing import open_receipt
from orchestrator.evidence.signing_key import read_public_keys
from orchestrator.testing.otlp import OtlpReceiver

PROJECT = Path(__file__).resolve().parents[2]
JOBS = Path(__file__).parent / "jobs"
STAGING, PROD = "https://staging.deploy.example", "https://prod.deploy.example"
EXPECTED = {"build": "success", "curious": "success", "deploy-staging": "success", "deploy-prod": "denied"}
KEY = "evidence.pub"
console = output.console()


class DemoError(Exception):
    """Why the demo cannot go on, for people."""


@asynccontextmanager
async def served_repository(folder: Path, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """A clone of HEAD over plain HTTP, as any static file server would offer it; its port at `address`."""
    bare = folder / "repository.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(PROJECT), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "repack", "-adq"], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)
    app = web.Application()
    app.router.add_static("/repository.git", bare)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, address, 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def pipeline(
    api: Api, git_port: int, target_port: int, state: Path, toolchain: str, about: dict[str, str] | None = None
) -> list[dict]:
    """Dispatch everything, in order; the finished jobs.

    `toolchain` is where the build finds its virtual environment, `about` what the curious job is told of its place.
    """
    build = {
        "name": "build",
        "pool": "build",
        "script": (JOBS / "build.sh").read_text(encoding="utf-8"),
        "environment": {
            "REPOSITORY_URL": f"http://git.demo.internal:{git_port}/repository.git",
            "TOOLCHAIN": toolchain,
        },
    }
    program = (JOBS / "curious.py").read_text(encoding="utf-8")
    curious = {
        "name": "curious",
        "pool": "closed",
        "environment": about or {},
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


async def receipts(api: Api, done: list[dict], folder: Path) -> list[str]:
    """Keep each job's receipt in `folder`, with the key, and show a line of it; what does not hold."""
    console.print()
    console.rule("receipts")
    pem = await api.text("/v1/evidence/key")
    (folder / KEY).write_text(pem, encoding="ascii")
    problems = []
    for job in done:
        envelope = await api.text(f"/v1/jobs/{job['id']}/receipt")
        (folder / f"{job['name']}.receipt.json").write_text(envelope, encoding="ascii")
        receipt, digest = open_receipt(envelope, read_public_keys(pem))
        runner, times = receipt.runner, receipt.times
        gone = f"gone {between(times.ended, runner.absent)} after its end" if runner else "it had no runner"
        given = f"tokens: {len(receipt.tokens)}, decisions: {len(receipt.decisions)}"
        console.print(f"{job['name']:<14} {gone}, {given}, {digest}")
        problems += [f"receipt of {job['name']}: {found.text}" for found in judge(receipt) if not found.holds]
    return problems


async def offline(folder: Path, name: str) -> list[str]:
    """Check a kept receipt as an auditor would, with nothing of the daemon left but two files."""
    words = ("receipt", "--file", f"{name}.receipt.json", "--key", KEY)
    console.print()
    console.rule(f"orchestrator {' '.join(words)}")
    variables = {**os.environ, "ORCHESTRATOR_STATE_DIR": str(folder / "no-daemon"), "COLUMNS": str(console.width)}
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *words, cwd=folder, env=variables, stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await command.communicate()
    console.print(shown.decode().rstrip(), markup=False, highlight=False, soft_wrap=True)
    return [f"the receipt of {name} is not good without the daemon"] if command.returncode else []


@asynccontextmanager
async def deploy_target(issuer: str, address: str = "127.0.0.1") -> AsyncIterator[int]:
    """The separate program that knows only the issuer's URL; its port at `address`."""
    program = Path(__file__).with_name("deploy_target.py")
    pipe = asyncio.subprocess.PIPE
    target = await asyncio.create_subprocess_exec(
        sys.executable, str(program), address, issuer, STAGING, PROD, stdin=pipe, stdout=pipe
    )
    assert target.stdin
    assert target.stdout
    try:
        yield int(await target.stdout.readline())
    finally:
        target.stdin.close()
        await target.wait()


async def ended_token(session: aiohttp.ClientSession, target_port: int, address: str = "127.0.0.1") -> list[str]:
    """Have the target judge the token again that it accepted while the job ran."""
    console.print()
    console.rule("the same token after its job's end")
    async with session.post(f"http://{address}:{target_port}/0/again") as answer:
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


def unexpected(done: list[dict]) -> list[str]:
    """Jobs that did not end as they must."""
    return [
        f"{job['name']} ended {job['result']} ({job['message']})"
        for job in done
        if job["result"] != EXPECTED[job["name"]]
    ]
