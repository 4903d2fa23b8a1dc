"""The backend's promises to the engine, and the agent's protocol, with real sandboxes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator.backends.sandbox.config import SandboxConfig
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.model.runner import ExitCause, RunnerName, RunnerState

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize(
    ("script", "code", "cause"),
    [
        ("exit 0", 0, ExitCause.EXITED),
        ("exit 3", 3, ExitCause.EXITED),
        ("false; echo never", 1, ExitCause.EXITED),
        ("kill -TERM $$", 143, ExitCause.SIGNALLED),
        ("kill -KILL $$", 137, ExitCause.SIGNALLED),
        ("no-such-command-here", 127, ExitCause.EXITED),
        ("setsid sleep 300 & exit 5", 5, ExitCause.EXITED),
    ],
)
async def test_the_exit_code_is_the_scripts(world, script, code, cause):
    view, output = await world.run(script)
    assert (view.exit_code, view.cause) == (code, cause), output
    assert "never" not in output


def test_a_job_gets_its_work_environment_and_no_more(forked):
    async def scenario(world, say):
        world.api.endpoint = "http://127.0.0.1:3129/runner"
        view, output = await world.run(
            "env; pwd; cat /job/.job.sh | wc -l", environment={"COLOUR": "blue", "HOME": "/tmp"}
        )
        say(json.dumps({"output": output, "claims": str(world.api.claims), "code": view.exit_code}))

    answer = json.loads(forked(scenario).join())
    assert answer["code"] == 0
    lines = set(answer["output"].splitlines())
    assert {
        "COLOUR=blue",
        "HOME=/tmp",
        "HTTPS_PROXY=http://127.0.0.1:3128",
        "NO_PROXY=127.0.0.1,localhost",
        "TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:3129/runner/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
        "ORCHESTRATOR_TOKEN_FILE=/run/orchestrator/token",
        "/job",
    } <= lines
    assert not {line for line in lines if line.startswith(("LC_ALL", "PYTHON"))}


async def test_the_claim_carries_token_and_proof(world):
    await world.run("true")
    (claim,) = world.api.claims
    assert claim["identity"].name == claim["runner"]
    assert claim["proof"]["reached"] == []
    assert len(claim["proof"]["denied"]) == 5
    assert world.gateway.seen[claim["runner"]] == [
        b"CONNECT egress-canary.invalid:443 HTTP/1.1\r\nHost: egress-canary.invalid:443\r\n\r\n"
    ]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"", b"nonsense\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"]
)
async def test_a_gateway_that_does_not_refuse_the_canary_spoils_the_proof(world, answer):
    world.gateway.answer = answer
    await world.run("true")
    assert world.api.claims[0]["proof"]["reached"] == ["gateway:egress-canary.invalid:443"]


@pytest.mark.parametrize(
    ("status", "reason", "code"),
    [
        (401, "runner_unknown", 77),
        (403, "egress_unproven", 78),
        (409, "already_bound", 77),
        (410, "job_ended", 77),
        (400, "x", 76),
    ],
)
async def test_a_refused_claim_runs_nothing_and_says_why(world, status, reason, code):
    world.api.refusal = (status, reason)
    view, output = await world.run("echo never")
    assert view.exit_code == code
    assert output == f"orchestrator-agent: the claim was refused: {status} {reason}\n"
    assert len(world.api.claims) == 1


async def test_a_claim_is_repeated_while_the_api_is_not_ready(world):
    world.api.failures = 1
    view, _ = await world.run("exit 9")
    assert view.exit_code == 9


async def test_commands_for_jobs_speak_to_the_runner_api(world):
    view, output = await world.run(
        """orchestrator-token --audience deploy.example
printf wheel > pkg.whl
orchestrator-artifact --media-type application/zip pkg.whl
! orchestrator-token --audience forbidden
"""
    )
    assert view.exit_code == 0, output
    assert "an.id.token" in output
    assert "invalid_target: not for you" in output
    token = world.api.claims[0]["token"]
    assert world.api.exchanges[0]["subject_token"] == token
    assert world.api.exchanges[0]["audience"] == "deploy.example"
    (artifact,) = world.api.artifacts
    assert artifact["digest"].startswith("sha256:")
    assert len(artifact["digest"]) == 71
    assert (artifact["name"], artifact["media_type"], artifact["size_bytes"]) == ("pkg.whl", "application/zip", 5)
    assert artifact["authorization"] == f"Bearer {token}"


async def test_create_is_idempotent_and_the_name_is_the_lock(world, worlds):
    spec = worlds.spec_of(1)
    world.api.scripts[spec.name] = {"script": "sleep 60"}
    views = await asyncio.gather(*(world.backend.create(spec) for _ in range(5)))
    assert len({view.uid for view in views}) == 1
    assert (await world.backend.create(spec)).uid == views[0].uid
    with pytest.raises(GiveUpError) as clash:
        await world.backend.create(worlds.spec_of(1, deadline=61))
    assert clash.value.reason == "runner_name_clash"
    assert [view.name for view in await world.backend.list()] == [spec.name]


async def test_an_exited_runner_stays_until_it_is_deleted(world):
    spec = await world.launch("echo done; exit 4")
    view = await world.until(spec.name, RunnerState.EXITED)
    assert (await world.backend.inspect(spec.name)) == view
    assert (await world.backend.list()) == [view]
    assert world.logs.logs[spec.job_id].closed == 1
    assert (await world.backend.create(spec)).state is RunnerState.EXITED
    await world.remove(spec)
    assert await world.backend.list() == []
    await world.backend.delete(spec.name)
    await world.backend.delete(RunnerName("never-was"))


async def test_a_name_can_be_used_again_with_another_uid(world):
    spec = await world.launch("sleep 60")
    first = await world.backend.inspect(spec.name)
    await world.remove(spec)
    assert (await world.backend.create(spec)).uid != first.uid


async def test_create_during_deletion_is_refused_for_now(world):
    spec = await world.launch("trap 'sleep 60' TERM; echo up; sleep 60 & wait")
    await world.backend.delete(spec.name)
    with pytest.raises(TryAgainError) as problem:
        await world.backend.create(spec)
    assert problem.value.reason == "runner_being_deleted"


async def test_delete_while_starting_leaves_nothing(world, worlds):
    specs = [worlds.spec_of(number) for number in range(6)]
    for spec in specs:
        world.api.scripts[spec.name] = {"script": "sleep 60"}
    creations = [asyncio.ensure_future(world.backend.create(spec)) for spec in specs]
    for number, spec in enumerate(specs):
        await asyncio.sleep(number * 0.003)
        await world.backend.delete(spec.name)
    await asyncio.gather(*creations, return_exceptions=True)
    for spec in specs:
        if not world.backend._sandboxes.get(spec.name):
            continue
        await world.backend.delete(spec.name)
        await world.until(spec.name, RunnerState.ABSENT)
    assert await world.backend.list() == []
    assert not world.gateway.open_runners


async def test_a_running_job_gets_sigterm_first(world):
    spec = await world.launch("trap 'echo goodbye; exit 0' TERM; echo up; sleep 60 & wait")
    await world.said(spec, "up")
    await world.remove(spec)
    assert world.output(spec) == "up\ngoodbye\n"


async def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(worlds):
    world = worlds.World(grace=0.2)
    await world.backend.start()
    try:
        spec = await world.launch("trap '' TERM; echo up; while :; do sleep 60; done")
        await world.said(spec, "up")
        async with asyncio.timeout(3):
            await world.remove(spec)
    finally:
        await world.backend.close()


async def test_the_hard_deadline_ends_a_runner(world):
    spec = await world.launch("trap '' TERM; sleep 60", deadline=1)
    view = await world.until(spec.name, RunnerState.EXITED, 10)
    assert view.cause is ExitCause.DEADLINE
    assert "hard deadline of 1 seconds" in view.detail


async def test_a_token_is_worth_nothing_once_its_runner_is_deleted(world):
    spec = await world.launch("cat /run/orchestrator/token; echo; sleep 60")
    await world.said(spec, "\n")
    token = world.output(spec).split()[0]
    identity = await world.backend.verify(token)
    assert identity.name == spec.name
    assert await world.backend.verify(token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    assert await world.backend.verify("") is None
    assert await world.backend.verify("\ud800") is None
    await world.backend.delete(spec.name)
    assert await world.backend.verify(token) is None


async def test_gone_means_the_gateway_has_let_go_too(world):
    spec = await world.launch("sleep 60")
    world.gateway.fail_close = 2
    await world.backend.delete(spec.name)
    await asyncio.sleep(0.05)
    assert (await world.backend.inspect(spec.name)).state is not RunnerState.ABSENT
    await world.until(spec.name, RunnerState.ABSENT)
    assert not world.gateway.open_runners


async def test_a_gateway_that_will_not_open_fails_the_creation_cleanly(world, worlds):
    async def refuse(runner, listener, rules):
        listener.close()
        raise TryAgainError("the gateway is restarting", reason="gateway_unavailable")

    world.gateway.open = refuse
    spec = worlds.spec_of(1)
    with pytest.raises(TryAgainError) as problem:
        await world.backend.create(spec)
    assert problem.value.reason == "gateway_unavailable"
    await world.until(spec.name, RunnerState.ABSENT)
    assert world.api.claims == []


async def test_output_beyond_the_cap_does_not_hold_the_job_up(world):
    view, output = await world.run("head -c 8000000 /dev/zero | tr '\\0' x; exit 6")
    assert view.exit_code == 6
    assert len(output) == 1 << 20
    (log,) = world.logs.logs.values()
    assert log.drained > 0


async def test_a_slow_log_slows_the_job_down_and_loses_nothing(world):
    opened, waiting = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        waiting.set()
        await opened.wait()

    spec = await world.launch("head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    world.logs.logs[spec.job_id].drain = drain
    await waiting.wait()
    taken = len(world.output(spec))
    await asyncio.sleep(0.1)
    assert len(world.output(spec)) == taken < 300_000
    assert (await world.backend.inspect(spec.name)).state is RunnerState.ALIVE
    opened.set()
    await world.until(spec.name, RunnerState.EXITED)
    assert world.output(spec) == "x" * 300_000 + "\nend\n"


async def test_a_log_that_cannot_be_closed_yet_is_closed_later(world):
    spec = await world.launch("read never < /dev/null || true; echo end")
    log, failures = world.logs.logs[spec.job_id], [OSError("disk full"), TryAgainError("journal closed")]

    async def close() -> None:
        if failures:
            raise failures.pop()
        log.closed += 1

    log.close = close
    await world.until(spec.name, RunnerState.EXITED)
    assert (log.closed, failures) == (1, [])


async def test_an_unknown_pool_is_refused(world, worlds):
    with pytest.raises(GiveUpError) as problem:
        await world.backend.create(worlds.spec_of(1, pool="nowhere"))
    assert problem.value.reason == "unknown_pool"


async def test_the_status_says_what_limits_hold(world):
    status = world.backend.status
    assert status.limits in ("cgroup-v2", "cgroup-v1", "rlimits")
    assert bool(status.degraded) == (set(status.controllers) != {"memory", "pids", "cpu"})


async def test_a_bwrap_that_cannot_make_sandboxes_is_a_configuration_error(worlds, tmp_path):
    tmp_path.chmod(0o755)
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    broken.chmod(0o755)
    world = worlds.World(bwrap=broken)
    try:
        with pytest.raises(ConfigurationError) as problem:
            await world.backend.start()
    finally:
        await world.backend.close()
    assert problem.value.reason == "isolation_unavailable"
    assert "No permissions to create new namespace" in str(problem.value)
    assert problem.value.fix


def bubblewraps_of(launcher: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]


async def test_spares_run_nothing_and_a_start_survives_their_death(world):
    launcher = world.backend._link.pid
    async with asyncio.timeout(10):
        while len(bubblewraps_of(launcher)) < 4:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert world.api.claims == []
    assert await world.backend.list() == []
    spares = bubblewraps_of(launcher)
    for pid in spares:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while set(spares) & set(bubblewraps_of(launcher)):
            await asyncio.sleep(0.001)
    view, output = await world.run("echo fresh")
    assert (view.exit_code, output) == (0, "fresh\n")


async def test_every_sandbox_is_used_once(world):
    seen = set()
    for _ in range(8):
        view, output = await world.run("cat /run/orchestrator/token; echo; touch /tmp/was-here; ls /job /tmp")
        assert "was-here" in output
        assert output.count("was-here") == 1
        seen.add((view.uid, output.split()[0]))
    assert len(seen) == 8
    assert len({token for _, token in seen}) == 8


def test_the_default_configuration_names_one_pool():
    assert list(SandboxConfig().pools) == ["default"]
