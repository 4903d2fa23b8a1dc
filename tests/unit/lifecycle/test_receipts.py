"""When a receipt is made, when it is made again, and what becomes of a job whose receipt cannot be made."""

from __future__ import annotations

import pytest
from world import KEY, Daemon, offer

from orchestrator.errors import TryAgainError
from orchestrator.evidence.receipts.signing import envelope_of, open_receipt
from orchestrator.evidence.receipts.story import Story
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.ports import RunnerIdentity, Withdrawn
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.testing.receipts import wrong_receipts

KEYS = {KEY.id: KEY.public}
JOB = offer().key.id
ENDED = e.JobEnded(Outcome(Result.SUCCESS, EndReason.COMPLETED, "done", 0))


async def started(**options) -> Daemon:
    daemon = Daemon(receipts=True, **options)
    await daemon.start()
    return daemon


async def running(daemon: Daemon, number: int = 1) -> None:
    await daemon.offer(offer(number))
    await daemon.settle()
    for name in daemon.backend.names():
        await daemon.claim(name)
    await daemon.settle()


async def end(daemon: Daemon) -> list[e.Event]:
    for name in daemon.backend.names():
        daemon.backend.exit(name)
    await daemon.settle()
    return await facts(daemon)


async def facts(daemon: Daemon, number: int = 1) -> list[e.Event]:
    return [fact.event for fact in await daemon.journal.facts_of(offer(number).key.id)]


def receipts(events: list[e.Event]):
    return [open_receipt(envelope_of(event), KEYS)[0] for event in events if isinstance(event, e.ReceiptSigned)]


async def test_a_job_that_ran_has_one_in_the_commit_of_its_finish():
    daemon = await started()
    await running(daemon)
    events = await end(daemon)
    assert [type(event) for event in events[-2:]] == [e.ReceiptSigned, e.JobFinished]
    (receipt,) = receipts(events)
    assert receipt.runner.seen_by == "memory"
    assert [(one.what, one.how) for one in receipt.access] == [("tester", "told")]
    assert wrong_receipts(await daemon.history(), KEYS) == []
    assert daemon.sealer._heard == daemon.sealer._access == {}, "nothing is remembered of a finished job"
    await daemon.kill()


@pytest.mark.parametrize(
    ("verdict", "word"), [(Verdict.DENY, "denied"), (Verdict.UNDEFINED, "undefined"), (Verdict.ERROR, "error")]
)
async def test_a_job_that_was_not_allowed_has_one(verdict, word):
    daemon = await started(verdict=verdict)
    await daemon.offer(offer())
    await daemon.settle()
    (receipt,) = receipts(await facts(daemon))
    assert (receipt.outcome.reason, receipt.runner, receipt.refused) == (f"policy_{word}", None, None)
    assert [one.verdict for one in receipt.decisions] == [verdict.value]
    await daemon.kill()


async def test_a_job_that_was_cancelled_in_the_queue_has_one():
    daemon = await started(capacity=1)
    await running(daemon)
    await daemon.offer(offer(2))
    await daemon.settle()
    await daemon.engine.cancel(offer(2).key.id, "bob")
    await daemon.settle()
    (receipt,) = receipts(await facts(daemon, 2))
    assert (receipt.outcome.reason, receipt.outcome.cancelled_by, receipt.runner) == ("cancelled", "bob", None)
    await daemon.kill()


async def test_the_next_daemon_reads_what_it_has_not_heard():
    daemon = await started()
    await running(daemon)
    assert await daemon.get_token(daemon.backend.names()[0])
    await daemon.kill()
    await daemon.start()
    (receipt,) = receipts(await end(daemon))
    assert (receipt.daemon.restarts, [token.jti for token in receipt.tokens]) == (1, ["jti-1"])
    assert wrong_receipts(await daemon.history(), KEYS) == []
    await daemon.kill()


async def test_a_receipt_is_made_again_when_the_journal_did_not_take_it():
    daemon = await started()
    await running(daemon)
    await daemon.engine.note(JOB, e.AlarmRaised("second_claim", "x"))
    seal, made = daemon.sealer.seal, []

    async def sealing(record, absent_ns, notes):
        made.append(await seal(record, absent_ns, notes))
        daemon.journal.fail_next(1 if len(made) == 1 else 0)
        return made[-1]

    daemon.sealer.seal = sealing
    await end(daemon)
    await daemon.clock.advance(2)
    (receipt,) = receipts(await facts(daemon))
    assert len(made) == 2
    assert [(alarm.alarm, alarm.count) for alarm in receipt.alarms] == [("second_claim", 1)]
    assert [one.what for one in receipt.access] == ["tester"]
    await daemon.kill()


async def test_a_receipt_that_can_never_be_made_is_an_alarm_and_the_job_is_finished(monkeypatch):
    def defect(*_args):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("orchestrator.daemon.records.receipt.receipt_of", defect)
    daemon = await started()
    await running(daemon)
    events = await end(daemon)
    assert isinstance(events[-1], e.JobFinished)
    (alarm,) = [event for event in events if isinstance(event, e.AlarmRaised)]
    assert alarm.alarm == "receipt_refused"
    assert "receipt_failed" in alarm.detail
    assert "ZeroDivisionError" not in alarm.detail
    assert (receipts(events), daemon.engine.live_count) == ([], 0)
    await daemon.kill()


async def test_a_receipt_that_is_too_large_is_an_alarm_and_the_job_is_finished(monkeypatch):
    monkeypatch.setattr("orchestrator.evidence.receipts.signing.MAX_STATEMENT_BYTES", 100)
    daemon = await started()
    await running(daemon)
    events = await end(daemon)
    assert [event.alarm for event in events if isinstance(event, e.AlarmRaised)] == ["receipt_refused"]
    assert "receipt_too_large" in str(events)
    await daemon.kill()


async def test_while_the_journal_cannot_be_read_the_job_waits_for_its_receipt_and_holds_no_slot(monkeypatch):
    daemon = await started(capacity=1)
    await running(daemon)
    await daemon.kill()
    await daemon.start()  # it has heard nothing of the job, so it must read
    read = daemon.journal.facts_of

    async def away(_job_id):
        raise TryAgainError("away", reason="journal_unavailable")

    daemon.sealer._journal = type("Away", (), {"facts_of": staticmethod(away)})()
    for name in daemon.backend.names():
        daemon.backend.exit(name)
    await daemon.settle()
    events = [fact.event for fact in await read(JOB)]
    assert not any(isinstance(event, e.JobFinished) for event in events)
    assert daemon.source.reports, "the platform is told all the same"
    assert daemon.engine.slots(offer().spec.pool).held == 0
    daemon.sealer._journal = daemon.journal
    await daemon.clock.advance(61)
    await daemon.settle()
    assert len(receipts(await facts(daemon))) == 1
    await daemon.kill()


async def test_an_identity_that_still_counts_is_never_sworn_to_be_refused():
    daemon = await started()
    await running(daemon)
    name = daemon.backend.names()[0]
    record = daemon.engine.bound_record(RunnerIdentity(name, daemon.backend.view(name).uid))
    with pytest.raises(TryAgainError) as caught:
        await daemon.sealer.seal(record, 1, ())
    assert caught.value.reason == "identity_counts"
    await daemon.kill()


async def test_what_is_left_at_a_platform_is_an_alarm_and_on_the_receipt():
    daemon = await started()

    async def left(_record):
        return [Withdrawn("registration", "busy", left=True)]

    daemon.revoke = left
    await running(daemon)
    events = await end(daemon)
    assert e.AlarmRaised("left_behind", "registration (busy)") in events
    (receipt,) = receipts(events)
    assert receipt.leftovers == ["registration (busy)"]
    assert [alarm.alarm for alarm in receipt.alarms] == ["left_behind"]
    await daemon.kill()


async def test_a_fact_that_is_not_understood_makes_no_gap(monkeypatch):
    """A story with a gap would be a false receipt: the job is read again, and there it shows."""
    daemon = await started()
    await running(daemon)
    monkeypatch.setattr("orchestrator.daemon.records.receipt._Heard.hear", broken)
    await daemon.engine.note(JOB, e.SpansRelayed(1, 0))
    monkeypatch.undo()
    (receipt,) = receipts(await end(daemon))
    assert receipt.journal.facts == len(await facts(daemon)) - 2
    await daemon.kill()


def broken(_heard, _fact):
    raise ValueError("a defect")


async def test_of_a_job_with_many_facts_only_their_sum_is_kept():
    daemon = await started()
    await running(daemon)
    verdict = e.EgressDecided("a.example", 443, "tls", True, "rule", bytes_up=1)
    for _ in range(200):
        await daemon.engine.note(JOB, verdict)
    heard = daemon.sealer._heard[JOB]
    assert (isinstance(heard.story, Story), len(heard.facts)) == (True, 0)
    (receipt,) = receipts(await end(daemon))
    assert receipt.egress.allowed[0].connections == 200
    assert wrong_receipts(await daemon.history(), KEYS) == []
    await daemon.kill()


async def test_a_teardown_that_takes_long_says_so():
    daemon = await started()
    await running(daemon)
    name = daemon.backend.names()[0]
    inspect = daemon.backend.inspect

    async def still_there(asked):
        view = await inspect(asked)
        return daemon.backend.view(asked) if daemon.clock.now_ns() < until else view

    until = daemon.clock.now_ns() + 90 * SECOND
    delete = daemon.backend.delete

    async def later(asked):
        if daemon.clock.now_ns() >= until:
            await delete(asked)

    daemon.backend.delete, daemon.backend.inspect = later, still_there
    daemon.backend.exit(name)
    for _ in range(30):
        await daemon.clock.advance(5)
        await daemon.start_sweep()
    (receipt,) = receipts(await facts(daemon))
    assert [alarm.alarm for alarm in receipt.alarms] == ["teardown_stuck"]
    assert receipt.runner.absent > receipt.alarms[0].first > receipt.times.ended
    await daemon.kill()
