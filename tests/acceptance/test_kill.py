"""`kill -9` of the daemon at every stage of a job: told honestly, none lost, none run twice, nothing left behind."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
from installation import Installation, broken_traces
from witness import GATE, Witness

from orchestrator.lifecycle.provision import MAX_RUNNERS
from orchestrator.model import events
from orchestrator.testing.otlp import OtlpReceiver

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"
HARDY = "setsid sh -c 'trap \"\" TERM HUP INT; sleep 600' &\n"
"""A process of the job that no signal but SIGKILL ends."""


def outcome(view: dict[str, Any]) -> tuple[str, str]:
    return view["result"], view["reason"]


async def test_in_the_middle_of_a_running_job(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    job_id = await here.dispatch("build", "echo said before\n" + HARDY + GATED)
    await witness.told(job_id, GATE)
    while "said before" not in (await here.command("logs", job_id)).out:
        pass
    here.watch()
    assert any("sandbox" in line or "bwrap" in line for line in here.present()), "the look for leftovers sees the job"
    await here.kill()
    assert await here.left() == [], "before any new daemon"

    await here.start()
    view = await here.finished(job_id)
    assert outcome(view) == ("error", "runner_lost")
    assert "not started again" in view["message"]
    assert (view["leftovers"], view["alarms"]) == ([], [])
    assert view["log"]["bytes_kept"] == len("said before\n"), "the log's end is on the record too"
    told = await here.command("show", job_id)
    assert "runner_lost" in told.out
    witness.open_gate()
    after = await here.dispatch("after", GATED)
    assert outcome(await here.finished(after)) == ("success", "completed")
    assert await broken_traces(receiver, [view, await here.job(after)]) == []
    gap = [span for span in receiver.spans if span.trace_id.hex() == view["trace_id"] and not span.parent_span_id]
    assert "runner_lost" in str(gap[0].attributes)
    assert await here.stop() == 0
    assert witness.words(job_id) == ["started", GATE], "it ran once, and not on"
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_with_jobs_queued_and_waiting(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    here.configure(receiver.endpoint, capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    waiting = await here.dispatch("waiting", GATED)
    assert (await here.until(waiting, lambda view: view["wait"]))["wait"]["reason"] == "pool_full"
    queued = await here.dispatch("queued", GATED)
    await here.kill()
    assert await here.left() == []
    assert witness.words(waiting) == witness.words(queued) == []

    witness.open_gate()
    await here.start()
    views = [await here.finished(job_id) for job_id in (running, waiting, queued)]
    assert [outcome(view) for view in views] == [("error", "runner_lost"), *[("success", "completed")] * 2]
    assert await broken_traces(receiver, views) == []
    assert await here.stop() == 0
    assert witness.words(waiting) == witness.words(queued) == ["started", GATE, "done"]
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_while_the_runner_is_made(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    """With the gateway stopped, the sandbox lives and its agent waits for the proof that egress is denied."""
    await here.start()
    here.part("orchestrator.egress").send_signal(signal.SIGSTOP)
    job_id = await here.dispatch("build", GATED)
    await here.phase(job_id, "provisioning", "binding")
    await here.agent_begun()
    await here.kill()
    assert await here.left() == []
    assert witness.words(job_id) == [], "no proof, no work"

    witness.open_gate()
    await here.start()
    view = await here.finished(job_id)
    assert outcome(view) == ("success", "completed")
    assert await broken_traces(receiver, [view]) == []
    assert await here.stop() == 0
    assert witness.words(job_id) == ["started", GATE, "done"]
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_during_teardown(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    job_id = await here.dispatch("stubborn", "trap '' TERM\n" + HARDY + GATED)
    await witness.told(job_id, GATE)
    launcher = here.part("launcher")
    launcher.send_signal(signal.SIGSTOP)  # else the job, its egress cut, is over and gone within milliseconds
    answer = await here.call("DELETE", f"/v1/jobs/{job_id}?reason=enough")
    assert answer.status == 202
    await here.phase(job_id, "teardown")
    await here.kill()
    launcher.send_signal(signal.SIGCONT)
    assert await here.left() == []

    await here.start()
    view = await here.finished(job_id)
    assert outcome(view) == ("cancellation", "cancelled")
    assert await broken_traces(receiver, [view]) == []
    assert await here.stop() == 0
    assert witness.words(job_id) == ["started", GATE]
    assert await here.broken_promises() == []


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_at_any_moment(
    seed: int, installed: Callable[..., Installation], witness: Witness, receiver: OtlpReceiver
) -> None:
    """Daemons are killed one after the other under a stream of jobs; then one may finish in peace."""
    chance = random.Random(seed)
    here = installed(otlp=receiver.endpoint)
    witness.open_gate()
    for number in range(12):
        if number % 4 == 0:
            await _start_and_kill(here, chance.uniform(0.2, 1.2))
            continue
        await here.start()
        for one in range(chance.randint(1, 4)):
            await here.dispatch(f"job-{number}-{one}", GATED)
        await asyncio.sleep(chance.uniform(0, 0.35))
        await here.kill()
        assert await here.left() == []
    await _kill_in_the_midst(here, witness)

    await here.start()
    views = [await here.finished(job_id, 60) for job_id in here.accepted]
    assert await broken_traces(receiver, views) == []
    assert await here.stop() == 0
    assert await here.broken_promises() == []
    history = await here.history()
    assert set(here.accepted) <= history.keys(), "what was acknowledged is there"
    for view in views:
        words, was = witness.words(view["id"]), outcome(view)
        bound = any(isinstance(fact.event, events.RunnerBound) for fact in history[view["id"]])
        assert was in (("success", "completed"), ("error", "runner_lost"), ("error", "provision_failed")), view
        if was[0] == "success":
            assert words == ["started", GATE, "done"]
        elif was[1] == "provision_failed":  # where runners start slowly, three in a row can be killed before they begin
            runners = [fact for fact in history[view["id"]] if isinstance(fact.event, events.ProvisionStarted)]
            assert (len(runners), bound, words) == (MAX_RUNNERS, False, [])
        else:
            assert bound, "a job that never had a runner's work is run by the next daemon"
            assert words == ["started", GATE, "done"][: len(words)]
    assert {view["result"] for view in views} == {"success", "error"}, "the kills hit jobs in the midst and others"


async def _kill_in_the_midst(here: Installation, witness: Witness) -> None:
    """However slow this machine is, one kill hits jobs that run and one that waits behind them."""
    witness.shut_gate()
    before = len(witness.visits)
    await here.start()
    for number in range(3):
        await here.dispatch(f"last-{number}", GATED)
    await witness.until(lambda: [visit.word for visit in witness.visits[before:]].count(GATE) == 2, 60)
    await here.kill()
    assert await here.left() == []
    witness.open_gate()


async def _start_and_kill(here: Installation, seconds: float) -> None:
    """Kill a daemon that is starting, recovering or just ready."""
    here.process = await here.launch()
    await asyncio.sleep(seconds)
    await here.kill()
    assert await here.left() == []
