"""What operators do to a daemon that has jobs: reload it, drain it, take that back, stop it."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from installation import Installation, broken_traces
from witness import GATE, Witness

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

GATED = "visit started\nvisit gate\nvisit done\n"


async def test_a_pool_grows_under_a_running_job(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    here.configure(receiver.endpoint, capacity=1)
    await here.start()
    first = await here.dispatch("first", GATED)
    await witness.told(first, GATE)
    second = await here.dispatch("second", GATED)
    await here.until(second, lambda view: view["wait"])
    here.configure(receiver.endpoint, capacity=2, server={"port": here.port, "max_queued_jobs": 9})
    done = await here.command("reload")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:3] == [
        "settings: loaded",
        "  in force: pools.default.capacity",
        "  needs a restart: server.max_queued_jobs",
    ]
    await witness.told(second, GATE)

    here.config.write_text("pools: [{name: default, capacity: many}]\n")
    done = await here.command("reload", "--json")
    settings = json.loads(done.out)["parts"][0]
    assert (done.code, settings["outcome"]) == (1, "refused")
    assert ("pools.0.capacity" in settings["detail"], "many" in done.out) == (True, False)
    witness.open_gate()
    views = [await here.finished(job_id) for job_id in (first, second)]
    assert [view["result"] for view in views] == ["success", "success"]
    assert await broken_traces(receiver, views) == []
    assert await here.stop() == 0
    assert await here.broken_promises() == []


async def test_drained_taken_back_and_stopped(here: Installation, witness: Witness) -> None:
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    watching = asyncio.ensure_future(here.command("drain", "--wait"))
    while (await here.call("GET", "/readyz")).status == 200:
        await asyncio.sleep(0)
    assert (await here.call("GET", "/readyz")).body["checks"]["accepting"] == "draining"
    refused = await here.call("POST", "/v1/jobs", here.body("late", "exit 0"), Idempotency_Key="late")
    assert (refused.status, refused.body["reason"]) == (503, "draining")
    status = json.loads((await here.command("drain", "--status", "--json")).out)
    assert (status["jobs_left"], status["left"]["running"], status["limit_at"]) == (1, 1, None)
    witness.open_gate()
    done = await watching
    assert done.code == 0, done
    assert done.out.splitlines()[0] == "draining: 1 left (1 running); 0 not begun"
    assert done.out.splitlines()[-1] == "draining: nothing left that a stop would end; 0 not begun"
    assert here.process is not None
    assert here.process.returncode is None, "it does not stop by itself"

    done = await here.command("drain", "--resume")
    assert (done.code, done.out.splitlines()) == (0, ["not draining: jobs are begun; 0 under way, 0 not begun"])
    again = await here.dispatch("again", "exit 0")
    assert (await here.finished(again))["result"] == "success"

    long = await here.dispatch("long", "visit started\nsleep 60\n")
    await witness.told(long, "started")
    assert (await here.command("drain", "--cancel", "--wait", "--json")).code == 0
    view = await here.job(long)
    assert (view["result"], "drained" in view["message"]) == ("cancellation", True)
    assert await here.stop(30) == 0
    assert await here.broken_promises() == []


async def test_a_drain_does_not_outlive_its_daemon(here: Installation, witness: Witness) -> None:
    """What waited for the drain's end is begun by the next daemon, and nothing twice."""
    here.configure(capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    waiting = await here.dispatch("waiting", "visit started\n")
    await here.until(waiting, lambda view: view["wait"])
    assert (await here.command("drain")).code == 0
    await here.kill()
    await here.start()
    assert (await here.finished(waiting))["result"] == "success"
    assert (await here.finished(running))["reason"] == "runner_lost"
    assert (await here.call("GET", "/readyz")).status == 200
    assert await here.stop() == 0
    assert witness.words(waiting) == ["started"]
    assert await here.broken_promises() == []


async def test_a_stop_cannot_be_taken_back(here: Installation, witness: Witness) -> None:
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    here.signal(signal.SIGTERM)
    while (await here.call("GET", "/readyz")).status == 200:
        await asyncio.sleep(0)
    status = json.loads((await here.command("drain", "--status", "--json")).out)
    assert (status["stopping"], status["limit_at"] is None) == (True, False)
    done = await here.command("drain", "--resume")
    assert (done.code, "cannot be taken back" in done.err) == (1, True)
    witness.open_gate()
    assert await here.exit_code() == 0
    assert await here.broken_promises() == []
