"""Driving the server from another process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import aiohttp
import pytest
from platform_clients import Listener

from orchestrator.testing.github.runner_folder import lay_out
from orchestrator.testing.github.server import GitHubServer


@pytest.fixture
async def control(options):
    async with GitHubServer(options, control=True) as github, aiohttp.ClientSession() as http:
        github.add_repository("acme/shop")
        listener = Listener(github, http)

        async def ask(method, path, **more):
            return await listener.call(method, f"{github.url}/_control/{path}", **more)

        ask.github = github
        yield ask


async def test_jobs_are_dispatched_and_seen(control):
    jobs = [{"name": "a", "labels": ["zt"], "steps": ["true", {"run": "false", "condition": "always"}]}]
    told = await control(
        "POST", "dispatch", json={"repository": "acme/shop", "jobs": jobs, "copies": 3, "actor": "lee"}
    )
    assert told.status == 201
    run = control.github.state.runs[told.json["id"]]
    assert [job.plan.name for job in run.jobs] == ["a"] * 3
    assert run.jobs[0].plan.steps[1].condition == "always"
    assert run.actor == "lee"
    state = (await control("GET", "state")).json
    assert state["jobs"] == {"all": 3, "done": 0}
    assert state["runs"][0]["status"] == "queued"
    assert state["counters"]["POST /_control/dispatch"] == 1
    assert (await control("POST", f"cancel/{run.id}")).status == 204
    assert (await control("GET", "state?runs=0")).json["jobs"] == {"all": 3, "done": 3}


async def test_a_runs_logs_are_there_when_it_is_done(control):
    jobs = [{"name": "a"}, {"name": "b", "waits": True}]
    run = control.github.state.runs[
        (await control("POST", "dispatch", json={"repository": "acme/shop", "jobs": jobs})).json["id"]
    ]
    run.jobs[0].log = "hello\n"
    asking = asyncio.create_task(control("GET", f"log/{run.id}"))
    await control("POST", f"cancel/{run.id}")
    told = await asyncio.wait_for(asking, 20)
    assert (told.status, told.body.decode()) == (200, "== a: cancelled\nhello\n== b: cancelled\n")
    assert (await control("GET", "log/last")).body == told.body
    assert (await control("GET", "log/1")).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"repository": "acme/none"},
        {"repository": "acme/shop", "copies": 0},
        {"repository": "acme/shop", "jobs": [{"labels": "zt"}]},
        {"repository": "acme/shop", "colour": "blue"},
        [],
    ],
)
async def test_what_cannot_be_dispatched(control, body):
    assert (await control("POST", "dispatch", json=body)).status in (404, 422)
    assert control.github.state.runs == {}


async def test_faults_and_time(control):
    assert (await control("POST", "faults", json={"fault": "unavailable", "part": "/meta", "times": 5})).status == 204
    assert (await control("POST", "faults", json={"fault": "none such"})).status == 422
    url = f"{control.github.url}/meta"
    async with aiohttp.ClientSession() as http:
        async with http.get(url) as answer:
            assert answer.status == 503
        assert (await control("POST", "faults", json={})).status == 204
        async with http.get(url) as answer:
            assert answer.status == 200
    before = control.github.clock.now()
    assert (await control("POST", "step", json={"seconds": 100})).json["now"] >= before + 100
    assert (await control("POST", "step", json={"seconds": -1})).status == 422


async def test_nobody_drives_a_server_that_did_not_ask_for_it(github, listener):
    assert (await listener.call("GET", f"{github.url}/_control/state")).status == 404


async def test_the_program_runs_by_itself(tmp_path):
    arguments = ["--jobs", "2", "--token-file", str(tmp_path / "token"), "--runner-folder", str(tmp_path / "runner")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator.testing.github", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        said = {}
        while "runner" not in said:
            line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
            assert line, "it ended early"
            said[line.split()[0]] = line.split(maxsplit=1)[1].strip()
        async with aiohttp.ClientSession() as http, http.get(said["control"]) as answer:
            assert (await answer.json())["jobs"] == {"all": 2, "done": 0}
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        assert os.access(said["runner"], os.X_OK)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_the_laid_out_program_starts(tmp_path):
    script = lay_out(tmp_path / "runner")
    variables = {"PATH": os.environ["PATH"], "RUNNER_ALLOW_RUNASROOT": "1"}
    done = subprocess.run(
        [script, "--jitconfig", "bm90IGpzb24="], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "runner: the just-in-time configuration cannot be read\n")
