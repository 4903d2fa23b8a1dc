"""The logs that a killed daemon left open are closed in the records of their jobs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.daemon.adapters import CutLogs
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.model.egress import EgressProof
from orchestrator.model.events import Fact, LogClosed, ProvisionStarted, RunnerBound
from orchestrator.model.job import JobId
from orchestrator.model.runner import RunnerName

JOB, RUNNER = JobId("memory.1.1"), RunnerName("runner-1")
RECORD = SimpleNamespace(id=JOB)


@pytest.mark.parametrize(
    ("backend", "closed", "told"),
    [("sandbox", False, [LogClosed(4, 0, 0)]), ("sandbox", True, []), ("kubernetes", False, [])],
)
async def test_each_is_told_of_as_often_as_it_is_asked_for(tmp_path, backend, closed, told):
    """What else belongs to the job's end may fail, and then all of it is asked for again."""
    store = LogStore(tmp_path / "logs", 1000, Masker())
    (tmp_path / "logs" / f"{JOB}.log").write_bytes(b"one\n")
    events = [ProvisionStarted(RUNNER, "digest", 1, backend), RunnerBound(RUNNER, "uid", EgressProof())]
    events += [LogClosed(4, 0, 0)] * closed
    cut = CutLogs(store)
    cut.expect([[Fact(JOB, 0, event) for event in events]])
    assert list(await cut.attest(RECORD)) == told
    assert list(await cut.attest(RECORD)) == told
    await store.close()
