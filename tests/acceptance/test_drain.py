"""SIGTERM: what runs may end, what waits stays for the next daemon, and the exit code says which it was."""

from __future__ import annotations

import signal

import aiohttp
import pytest
from installation import Installation, broken_traces
from witness import GATE, Witness

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"


async def draining(here: Installation) -> None:
    """Return when the daemon says that it takes nothing any more."""
    while (answer := await here.call("GET", "/readyz")).status == 200:
        pass
    assert answer.body["checks"]["accepting"] == "draining", answer


async def test_running_jobs_end_and_queued_ones_stay(
    here: Installation, witness: Witness, receiver: OtlpReceiver
) -> None:
    here.configure(receiver.endpoint, capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    waiting = await here.dispatch("waiting", GATED)
    await here.until(waiting, lambda view: view["wait"])
    here.signal(signal.SIGTERM)
    await draining(here)
    refused = await here.call("POST", "/v1/jobs", here.body("late", "exit 0"), Idempotency_Key="late")
    assert (refused.status, refused.body["reason"]) == (503, "draining")
    assert "Retry-After" in refused.headers
    assert here.process is not None
    assert here.process.returncode is None, "it waits for the job"
    witness.open_gate()
    assert await here.exit_code() == 0
    assert await here.left() == []
    assert witness.words(running) == ["started", GATE, "done"]
    assert witness.words(waiting) == []
    assert not (here.state / "daemon.json").exists(), "no address of a daemon that is gone"

    await here.start()
    views = [await here.finished(job_id) for job_id in (running, waiting)]
    assert [view["result"] for view in views] == ["success", "success"]
    assert await broken_traces(receiver, views) == []
    assert await here.stop() == 0
    assert witness.words(waiting) == ["started", GATE, "done"]
    assert await here.broken_promises() == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
async def test_a_second_signal_does_not_wait(number: signal.Signals, here: Installation, witness: Witness) -> None:
    await here.start()
    job_id = await here.dispatch("long", GATED)
    await witness.told(job_id, GATE)
    here.signal(number)
    await draining(here)
    here.signal(number)
    assert await here.exit_code(30) == 0
    assert await here.left() == []
    assert witness.words(job_id) == ["started", GATE]

    await here.start()
    view = await here.finished(job_id)
    assert (view["result"], view["reason"]) == ("cancellation", "cancelled")
    assert "the daemon was stopped" in view["message"]
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_draining_has_a_limit(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    here.configure(receiver.endpoint, deadlines={"drain_seconds": 0.5})
    await here.start()
    job_id = await here.dispatch("long", GATED)
    await witness.told(job_id, GATE)
    assert await here.stop(30) == 0
    (facts,) = [facts for job, facts in (await here.history()).items() if job == job_id]
    assert type(facts[-1].event).__name__ == "JobFinished"
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_work_that_cannot_be_ended_is_left_and_said(here: Installation, witness: Witness) -> None:
    """With its launcher stopped, no sandbox can be verified gone: exit code 2, and the next daemon finishes."""
    await here.start()
    job_id = await here.dispatch("long", GATED)
    await witness.told(job_id, GATE)
    launcher = here.part("launcher")
    launcher.send_signal(signal.SIGSTOP)
    here.signal()
    await draining(here)
    here.signal()
    try:
        code = await here.exit_code(60)
    finally:
        if launcher.is_running():
            launcher.send_signal(signal.SIGCONT)
    assert code == 2
    left = [line for line in await here.left() if not line.startswith("control group")]
    assert left == [], "all processes are gone; the next daemon removes the empty control groups"
    await here.start()
    view = await here.finished(job_id)
    assert view["result"] == "cancellation", view
    assert await here.stop() == 0
    assert witness.words(job_id) == ["started", GATE]
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_an_idle_daemon_stops_at_once(here: Installation) -> None:
    await here.start()
    assert await here.stop(20) == 0
    with pytest.raises(aiohttp.ClientError):
        async with aiohttp.ClientSession() as session, session.get(here.url + "/healthz"):
            pass
