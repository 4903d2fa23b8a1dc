"""What gateways of a cluster report becomes facts of the right jobs, bounded, and durable before it counts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from orchestrator.daemon.cluster.egress import MAX_ALARMS, ClusterEgress
from orchestrator.daemon.verdicts import VerdictNotes
from orchestrator.egress import hub as hub_module
from orchestrator.egress.batch import Batch, Misuse, RunnerVerdict
from orchestrator.errors import TryAgainError
from orchestrator.model.events import AlarmRaised, EgressDecided

VERDICT = EgressDecided("secret.test", 443, "tls", True, "tls://*.test:443")


class Jobs:
    """The engine's part: one running job for each runner named."""

    def __init__(self, *runners: str) -> None:
        self.jobs = {f"runner-{name}": f"job-{name}" for name in runners}
        self.facts: list[tuple[str, object]] = []
        self.broken = False

    def record_of_runner(self, runner):
        return SimpleNamespace(id=self.jobs[runner]) if runner in self.jobs else None

    async def note(self, job_id, *events):
        if self.broken:
            raise TryAgainError("no", reason="journal_unavailable")
        self.facts += [(job_id, event) for event in events]


def egress(jobs: Jobs, monkeypatch) -> ClusterEgress:
    monkeypatch.setattr(hub_module, "MARGIN_SECONDS", 0.0)
    made = ClusterEgress(lambda: jobs, lambda text: text.replace("secret", "***"), max_age=0.2)
    for name in "ab":
        made.hub.publish(f"runner-{name}", f"10.0.0.{ord(name)}", name * 64, [])
    made.hub.begin()
    return made


def batch(number: int, *names: str, alarms=()) -> Batch:
    return Batch("g", number, tuple(RunnerVerdict(f"runner-{name}", VERDICT) for name in names), alarms)


async def test_verdicts_are_facts_before_they_are_acknowledged(monkeypatch):
    jobs = Jobs("a")
    made = egress(jobs, monkeypatch)
    await made.hub.take("pod", batch(1, "a", "b"))
    ((job, fact),) = jobs.facts  # of `runner-b` there is no job any more
    assert (job, fact.host, fact.bytes_up) == ("job-a", "***.test", 0)
    jobs.broken = True
    with pytest.raises(TryAgainError):
        await made.hub.take("pod", batch(2, "a"))
    jobs.broken = False
    await made.hub.take("pod", batch(2, "a"))
    assert len(jobs.facts) == 2
    await made.stop()


async def test_a_misused_credential_is_an_alarm_on_both_jobs_and_not_a_flood(monkeypatch):
    jobs = Jobs("a", "b")
    made = egress(jobs, monkeypatch)
    for number in range(1, MAX_ALARMS + 5):
        await made.hub.take("pod", batch(number, alarms=(Misuse("runner-a", "runner-b", "10.0.0.98", number),)))
    await made.stop()
    assert {job for job, _ in jobs.facts} == {"job-a", "job-b"}
    assert len(jobs.facts) == 2 * MAX_ALARMS
    assert {fact.alarm for _, fact in jobs.facts if isinstance(fact, AlarmRaised)} == {"job_credential_misused"}
    assert "runner-a was presented by runner runner-b (10.0.0.98)" in jobs.facts[0][1].detail


async def test_a_stranger_with_a_credential_is_an_alarm_on_its_owner(monkeypatch):
    jobs = Jobs("a", "b")
    made = egress(jobs, monkeypatch)
    await made.hub.take("pod", batch(1, alarms=(Misuse("runner-a", "", "10.9.9.9"),)))
    await made.stop()
    ((job, fact),) = jobs.facts
    assert job == "job-a"
    assert "an address of no runner (10.9.9.9)" in fact.detail


async def test_revoking_takes_the_runner_out_and_waits_for_its_verdicts(monkeypatch):
    jobs = Jobs("a")
    made = egress(jobs, monkeypatch)
    assert made.checks()["gateway"] != "ok"
    version = (await made.hub.poll("pod", "g", "")).version
    assert made.checks() == {"gateway": "ok"}
    revoking = asyncio.create_task(made.revoke(SimpleNamespace(runner="runner-a")))
    await made.hub.take("pod", batch(1, "a"))
    assert (await made.hub.poll("pod", "g", version)).gone == ("runner-a",)
    assert not revoking.done()
    await asyncio.wait_for(revoking, 5)
    assert [job for job, _ in jobs.facts] == ["job-a"]
    await made.revoke(SimpleNamespace(runner=None))
    await made.stop()


async def test_what_the_journal_did_not_take_goes_with_the_next():
    """Of a sandbox's runner nobody asks before its job is over."""
    jobs = Jobs("a")
    notes = VerdictNotes(lambda: jobs, str)
    jobs.broken = True
    notes.verdict("runner-a", VERDICT)
    await notes.stop()
    assert jobs.facts == []
    jobs.broken = False
    notes.verdict("runner-a", VERDICT)
    await notes.stop()
    assert len(jobs.facts) == 2


async def test_a_journal_that_is_slow_gathers_verdicts_and_no_tasks():
    """A job has as many as it likes."""
    jobs, gate, note = Jobs("a"), asyncio.Event(), Jobs.note
    notes = VerdictNotes(lambda: jobs, str)

    async def slow(job_id, *events):
        await gate.wait()
        await note(jobs, job_id, *events)

    jobs.note = slow
    before = len(asyncio.all_tasks())
    for _ in range(20):
        notes.verdict("runner-a", VERDICT)
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) - before == 2, "one that writes, and one for all that came since"
    gate.set()
    await notes.stop()
    assert len(jobs.facts) == 20
