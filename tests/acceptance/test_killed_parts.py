"""SIGKILL of the daemon's own parts in the middle of a job: it fails closed, is told honestly, others are served."""

from __future__ import annotations

import asyncio

import pytest
from installation import Installation, broken_traces
from witness import GATE, Witness

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = pytest.mark.sandbox

GATED = "visit started\nvisit gate\nvisit done\n"
CUT_OFF = "visit started\nif visit gate; then exit 5; fi\n" + "".join(
    "if visit again; then exit 6; fi\nsleep 0.3\n" for _ in range(5)
)
"""Succeeds when the visit at the gate is cut and no later one comes through, also not past the gateway's restart."""


async def test_the_egress_gateway(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    job_id = await here.dispatch("cut-off", CUT_OFF)
    await witness.told(job_id, GATE)
    gateway = here.part("orchestrator.egress")
    gateway.kill()
    view = await here.finished(job_id)
    assert (view["result"], view["exit_code"]) == ("success", 0), "no egress came back for it"
    assert witness.words(job_id) == ["started", GATE]
    while (await here.call("GET", "/readyz")).status != 200:
        await asyncio.sleep(0.05)
    assert here.part("orchestrator.egress").pid != gateway.pid
    witness.open_gate()
    after = await here.dispatch("after", GATED)
    assert (await here.finished(after))["result"] == "success"
    assert await broken_traces(receiver, [view, await here.job(after)]) == []
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_the_gateway_before_a_job_has_begun(here: Installation, witness: Witness) -> None:
    """A job that comes while there is no gateway waits for the next one; it never runs without."""
    await here.start()
    witness.open_gate()
    here.part("orchestrator.egress").kill()
    job_id = await here.dispatch("early", GATED)
    view = await here.finished(job_id)
    assert view["result"] == "success", view
    assert witness.words(job_id) == ["started", GATE, "done"]
    assert any(verdict["canary"] and not verdict["allowed"] for verdict in view["egress"]), "the denial was proven"
    assert await here.stop() == 0
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_the_sandbox_launcher(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    lost = [await here.dispatch(f"lost-{number}", GATED) for number in range(2)]
    for job_id in lost:
        await witness.told(job_id, GATE)
    waiting = await here.dispatch("waiting", GATED)
    await here.until(waiting, lambda view: view["wait"])
    here.watch()
    launcher = here.part("launcher")
    launcher.kill()
    views = [await here.finished(job_id) for job_id in lost]
    assert [(view["result"], view["reason"]) for view in views] == [("error", "runner_lost")] * 2
    assert all("not started again" in view["message"] for view in views)
    witness.open_gate()
    assert (await here.finished(waiting))["result"] == "success", "the one that had not begun is run all the same"
    assert here.part("launcher").pid != launcher.pid
    assert await broken_traces(receiver, [*views, await here.job(waiting)]) == []
    assert await here.stop() == 0
    assert [witness.words(job_id) for job_id in lost] == [["started", GATE]] * 2
    assert await here.broken_promises() == []


@pytest.mark.slow
async def test_the_sandbox_itself(here: Installation, witness: Witness) -> None:
    """Its supervisor killed from outside, as by the kernel for want of memory."""
    await here.start()
    job_id = await here.dispatch("hit", GATED)
    await witness.told(job_id, GATE)
    scripts = [p for p in here.part("launcher").children(recursive=True) if ".job.sh" in " ".join(p.cmdline())]
    (supervisor,) = {p.parent().parent().pid for p in scripts if p.ppid() not in {s.pid for s in scripts}}
    outer = next(p for p in here.part("launcher").children() if p.pid == supervisor)
    outer.kill()
    view = await here.finished(job_id)
    assert (view["result"], view["reason"]) == ("error", "runner_lost"), view
    assert await here.stop() == 0
    assert witness.words(job_id) == ["started", GATE]
    assert await here.broken_promises() == []
