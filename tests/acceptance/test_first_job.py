"""The way of a user: start the daemon, submit by the command line, read what became of it."""

from __future__ import annotations

import json

import pytest
from installation import Installation, broken_traces
from witness import PREAMBLE, Witness

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = pytest.mark.sandbox


async def test_a_job_by_the_command_line(here: Installation, witness: Witness, receiver: OtlpReceiver) -> None:
    await here.start()
    variables = [word for name, value in witness.environment.items() for word in ("--env", f"{name}={value}")]
    script = PREAMBLE + "visit started; echo hello from $ORCHESTRATOR_JOB_ID; visit done"
    done = await here.command("submit", "--name", "hello", "--script", script, *variables)
    assert done.code == 0, done.err
    (line,) = done.out.splitlines()
    job_id = line.removeprefix("hello from ")
    here.accepted.append(job_id)
    assert witness.words(job_id) == ["started", "done"]

    shown = json.loads((await here.command("show", job_id, "--json")).out)
    assert (shown["result"], shown["exit_code"], shown["leftovers"], shown["alarms"]) == ("success", 0, [], [])
    assert [(verdict["host"], verdict["allowed"]) for verdict in shown["egress"] if not verdict["canary"]] == [
        ("witness.test.internal", True),
        ("witness.test.internal", True),
    ]
    assert job_id in (await here.command("jobs", "--json")).out
    assert (await here.command("logs", job_id)).out == done.out

    failed = await here.command("submit", "--name", "red", "--script", "exit 3")
    assert failed.code == 10
    assert await broken_traces(receiver, [shown]) == []
    assert await here.stop() == 0
    assert await here.broken_promises() == []
    gone = await here.command("jobs")
    assert gone.code == 3, "no daemon answers"
