"""The stand-in runner program, as a process, against the real test server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from platform_clients import HandRunner

from orchestrator.testing.github import runner as program
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.model import JobPlan, Step

PROGRAM = str(Path(program.__file__))


@pytest.fixture
async def scale_set(listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    await asyncio.wait_for(_without_news(listener, session), 10)
    return one["id"], session


async def _without_news(listener, session):
    """A poll that names the capacity, and is dropped."""
    poll = asyncio.create_task(listener.poll(session))
    await listener.github.until(lambda: all(one.capacity for one in listener.github.state.sets.values()))
    poll.cancel()
    await asyncio.gather(poll, return_exceptions=True)


@asynccontextmanager
async def started(folder: Path, blob: str, *arguments: str, **environment: str):
    variables = {"PATH": os.environ["PATH"], "RUNNER_ALLOW_RUNASROOT": "1", "ACTIONS_RUNNER_INPUT_JITCONFIG": blob}
    variables = {name: value for name, value in (variables | environment).items() if value}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", PROGRAM, *arguments, cwd=folder, env=variables, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ran(folder: Path, blob: str, *arguments: str, **environment: str) -> tuple[int, str]:
    async with started(folder, blob, *arguments, **environment) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode is not None
        return process.returncode, out.decode()


async def blob_of(listener, set_id, name="r-1"):
    return (await listener.generate(set_id, name)).json["encodedJITConfig"]


def hook(folder: Path, text: str, name: str = "hook.sh") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


async def test_steps_run_with_the_real_variables(github, listener, scale_set, tmp_path):
    steps = (
        'echo "$GITHUB_REPOSITORY $RUNNER_NAME $GITHUB_RUN_ATTEMPT ${ACTIONS_RUNNER_INPUT_JITCONFIG-none}"',
        'echo "COLOUR=blue" >> "$GITHUB_ENV"; printf "TEXT<<E\\none\\ntwo\\nE\\n" >> "$GITHUB_ENV"',
        'echo "$COLOUR $TEXT"; grep -c shop "$GITHUB_EVENT_PATH"; echo "$RUNNER_TEMP" >> "$GITHUB_PATH"',
        'echo "$PATH" | cut -d: -f1; echo ::add-mask::hush; echo hush hush',
    )
    run = github.dispatch_workflow("acme/shop", [JobPlan(steps=steps)])
    code, out = await ran(tmp_path, await blob_of(listener, scale_set[0]))
    job = run.jobs[0]
    assert (code, job.conclusion) == (0, "success")
    assert "acme/shop r-1 1 none\n" in job.log
    assert "blue one\ntwo\n1\n" in job.log
    assert f"{tmp_path}/_work/_temp\n" in job.log
    assert "hush" not in job.log
    assert "*** ***" in job.log
    assert "hush" not in out
    assert "completed with result: succeeded" in out
    assert github.state.runners == {}


async def test_after_a_failure_only_conditions_run(github, listener, scale_set, tmp_path):
    steps = (
        "exit 3",
        "echo never",
        Step("echo because", condition="failure"),
        Step("echo in any case", condition="always"),
    )
    run = github.dispatch_workflow("acme/shop", [JobPlan(steps=steps)])
    code, _ = await ran(tmp_path, await blob_of(listener, scale_set[0]))
    job = run.jobs[0]
    assert (code, job.conclusion) == (0, "failure")  # run.sh says 0, whatever became of the job
    assert [one["conclusion"] for one in job.steps] == ["failure", "skipped", "success", "success"]
    assert "because\n" in job.log
    assert "in any case\n" in job.log
    assert "\nnever\n" not in job.log


async def test_hooks_run_before_and_after(github, listener, scale_set, tmp_path):
    before = hook(tmp_path, 'echo "before $GITHUB_RUN_ID"; echo "GIVEN=yes" >> "$GITHUB_ENV"')
    after = hook(tmp_path, 'echo "after $GIVEN"', "after.sh")
    run = github.dispatch_workflow("acme/shop", [JobPlan(steps=('echo "step $GIVEN"',))])
    hooks = {"ACTIONS_RUNNER_HOOK_JOB_STARTED": before, "ACTIONS_RUNNER_HOOK_JOB_COMPLETED": after}
    await ran(tmp_path, await blob_of(listener, scale_set[0]), **hooks)
    lines = [line for line in run.jobs[0].log.splitlines() if not line.startswith("##")]
    assert lines == [f"before {run.id}", "step yes", "after yes"]


async def test_a_started_hook_that_fails_ends_the_job_but_not_every_step(github, listener, scale_set, tmp_path):
    refuse = hook(tmp_path, 'echo "::error title=denied by policy::forks may not deploy"; exit 1')
    run = github.dispatch_workflow(
        "acme/shop", [JobPlan(steps=("echo user code", Step("echo always", condition="always")))]
    )
    code, _ = await ran(tmp_path, await blob_of(listener, scale_set[0]), ACTIONS_RUNNER_HOOK_JOB_STARTED=refuse)
    job = run.jobs[0]
    assert (code, job.conclusion) == (0, "failure")
    assert job.annotations == ["forks may not deploy"]
    assert "user code\n" not in job.log.replace("##[group]Run echo user code\n", "")
    assert "\nalways\n" in job.log


@pytest.mark.parametrize("name", ["hook.py", "missing.sh"])
async def test_a_hook_must_be_a_shell_script_that_exists(github, listener, scale_set, tmp_path, name):
    path = hook(tmp_path, "true", name) if name.endswith(".py") else str(tmp_path / name)
    run = github.dispatch_workflow("acme/shop", [JobPlan()])
    await ran(tmp_path, await blob_of(listener, scale_set[0]), ACTIONS_RUNNER_HOOK_JOB_STARTED=path)
    assert run.jobs[0].conclusion == "failure"
    assert "is not a valid path to a script" in run.jobs[0].log


async def test_the_job_can_be_cancelled_while_it_runs(github, listener, scale_set, tmp_path):
    run = github.dispatch_workflow("acme/shop", [JobPlan(steps=("exec sleep 60", "echo never"))])
    async with started(tmp_path, await blob_of(listener, scale_set[0])) as process:
        await github.until(lambda: github.counters["GET /_broker/message"] == 2)
        github.state.cancel(run)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    job = run.jobs[0]
    assert job.conclusion == "cancelled"
    assert github.state.runners == {}
    assert job.steps[1]["conclusion"] == "skipped"


async def test_a_signal_ends_an_idle_runner_and_its_session(github, listener, scale_set, tmp_path):
    blob = await blob_of(listener, scale_set[0])
    (registered,) = github.state.runners.values()
    async with started(tmp_path, blob) as process:
        await github.until(lambda: registered.waiter is not None or github.counters["GET /_broker/message"] > 0)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 143
    assert not registered.online


async def test_a_signal_during_the_job_cancels_it(github, listener, scale_set, tmp_path):
    run = github.dispatch_workflow("acme/shop", [JobPlan(steps=("exec sleep 60",))])
    async with started(tmp_path, await blob_of(listener, scale_set[0])) as process:
        await github.until(lambda: run.jobs[0].started_at is not None)
        while not list(tmp_path.glob("_work/_temp/step-0.sh")):
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 143
    assert run.jobs[0].conclusion == "cancelled"


@pytest.mark.parametrize(
    ("listens", "environment", "code"),
    [
        ((), {}, 0),
        ((), {"ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE": "1"}, 7),
        (("--listener",), {}, 7),
    ],
)
async def test_a_deprecated_version(github, listener, scale_set, tmp_path, listens, environment, code):
    github.broker.refuse_versions = True
    assert (await ran(tmp_path, await blob_of(listener, scale_set[0]), *listens, **environment))[0] == code


@pytest.mark.parametrize(("listens", "code"), [((), 0), (("--listener",), 1)])
async def test_a_configuration_that_cannot_be_read(tmp_path, listens, code):
    assert (await ran(tmp_path, "bm90IGpzb24=", *listens))[0] == code


async def test_the_listener_can_tell_the_result(github, listener, scale_set, tmp_path):
    github.dispatch_workflow("acme/shop", [JobPlan(steps=("false",))])
    hosted = {"ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED": "true"}
    assert (await ran(tmp_path, await blob_of(listener, scale_set[0]), "--listener", **hosted))[0] == 102


async def test_a_failure_that_passes_starts_the_listener_again(github, listener, scale_set, tmp_path):
    run = github.dispatch_workflow("acme/shop")
    blob = await blob_of(listener, scale_set[0])
    github.faults.add(Fault.UNAVAILABLE, "POST /_broker/session", times=2)
    assert (await ran(tmp_path, blob, "--listener"))[0] == 2
    assert not run.done
    assert (await ran(tmp_path, blob))[0] == 0  # run.sh tries again
    assert run.jobs[0].conclusion == "success"


async def test_a_second_program_with_the_same_configuration_gives_up(github, listener, scale_set, monkeypatch):
    await blob_of(listener, scale_set[0])
    first = HandRunner(listener, "r-1")
    await first.come()
    monkeypatch.setattr(program, "CONFLICT_SECONDS", 0)
    broker = program.Broker(f"{github.url}/_broker/", first.registered.secret)
    with pytest.raises(program.EndedError) as told:
        await asyncio.to_thread(program.open_session, broker)
    assert told.value.code == program.SESSION_CONFLICT


async def test_a_result_is_reported_though_the_answer_is_lost(github, listener, scale_set, tmp_path):
    run = github.dispatch_workflow("acme/shop")
    blob = await blob_of(listener, scale_set[0])
    github.faults.add(Fault.UNAVAILABLE, "POST /_broker/complete", times=2)
    github.faults.add(Fault.RESET, "POST /_broker/complete", seconds=0)
    assert (await ran(tmp_path, blob))[0] == 0
    assert run.jobs[0].conclusion == "success"
    assert github.counters["POST /_broker/complete"] == 4


@pytest.mark.root
@pytest.mark.parametrize(("trap", "code"), [("", 0), ("1", 1)])
async def test_root_is_refused(tmp_path, trap, code):
    variables = {"RUNNER_ALLOW_RUNASROOT": "", "RUNNER_MANUALLY_TRAP_SIG": trap}
    assert (await ran(tmp_path, "x", **variables)) == (code, "Must not run with sudo\n")


async def test_a_removed_runner_gets_no_session(github, listener, scale_set, tmp_path):
    blob = await blob_of(listener, scale_set[0])
    (registered,) = github.state.runners.values()
    github.state.remove_runner(registered)
    assert (await ran(tmp_path, blob, "--listener"))[0] == 1


async def test_an_idle_runner_ends_when_it_is_removed(github, listener, scale_set, tmp_path):
    blob = await blob_of(listener, scale_set[0])
    (registered,) = github.state.runners.values()
    async with started(tmp_path, blob, "--listener") as process:
        await github.until(lambda: registered.online)
        github.state.remove_runner(registered)
        assert await asyncio.wait_for(process.wait(), 20) == 1


async def test_the_configuration_may_be_an_argument(github, listener, scale_set, tmp_path):
    run = github.dispatch_workflow("acme/shop")
    blob = await blob_of(listener, scale_set[0])
    assert (await ran(tmp_path, "", "--jitconfig", blob))[0] == 0
    assert run.jobs[0].conclusion == "success"


async def test_it_goes_through_the_proxy_with_its_credential(github, listener, scale_set, tmp_path):
    """The proxy passes absolute forms on to the server, whose name only it knows."""
    seen: list[bytes] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        there, back = await asyncio.open_connection("127.0.0.1", github.port)
        back.write(head.replace(b"http://github.example:8085", b""))
        length = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        back.write(await reader.readexactly(length))
        writer.write(await there.read())
        await writer.drain()
        writer.close()
        back.close()

    blob = json.loads(base64.b64decode(await blob_of(listener, scale_set[0])))
    settings = json.loads(base64.b64decode(blob[".runner"])) | {"ServerUrlV2": "http://github.example:8085/_broker/"}
    blob[".runner"] = base64.b64encode(json.dumps(settings).encode()).decode()
    run = github.dispatch_workflow("acme/shop")
    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        through = f"http://runner-1:secret@127.0.0.1:{port}"
        code, _ = await ran(tmp_path, base64.b64encode(json.dumps(blob).encode()).decode(), http_proxy=through)
    assert (code, run.jobs[0].conclusion) == (0, "success")
    assert all(head.split()[1].startswith(b"http://github.example:8085/_broker/") for head in seen)
    basic = base64.b64encode(b"runner-1:secret")
    assert all(b"Proxy-Authorization: Basic " + basic in head for head in seen)
    assert len(seen) == 3


async def test_a_job_gets_its_token_and_only_while_it_runs(github, listener, scale_set):
    run = github.dispatch_workflow("acme/shop", [JobPlan(id_token=True)])
    await blob_of(listener, scale_set[0])
    runner = HandRunner(listener, "r-1")
    await runner.come()
    variables = (await runner.job()).json["variables"]
    url = variables["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=ours"
    bearer = variables["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    assert (await listener.call("GET", url, bearer)).status == 200
    assert (await listener.call("GET", url, "wrong")).status == 401
    await runner.complete()
    assert (await listener.call("GET", url, bearer)).status == 403
    assert run.done


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB=2=3\n", {"A": "1", "B": "2=3"}),
        ("A<<X\none\ntwo=2\nX\nB=1", {"A": "one\ntwo=2", "B": "1"}),
        ("A=x<<y\n", {"A": "x<<y"}),
        ("no assignment\n\n", {}),
        ("A<<X\nnever closed", {"A": "never closed"}),
    ],
)
def test_the_language_of_the_environment_file(text, found):
    assert program.parsed_variables(text) == found


@pytest.mark.parametrize("value", [None, True, 3, 1.5, 'a"b\n', [1, ["x"]], {"a": {"b": None}}])
def test_its_own_json_is_json(value):
    assert json.loads(program.dumps(value)) == value
    assert program.loads(program.dumps(value).encode()) == value
