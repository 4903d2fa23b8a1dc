"""What fails is told when it begins, when its reason changes and when it is over; and no more often."""

from __future__ import annotations

import asyncio
import logging

import pytest

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake.github.scale_sets.messages import JobMessage, JobMessageKind
from orchestrator.intake.github.scale_sets.status import SetStatus, waiting_for
from orchestrator.intake.github.scale_sets.waits import BOUNDS, Waits
from orchestrator.intake.github.source_config import SourceTiming
from orchestrator.intake.github.telling import Telling
from orchestrator.intake.github.trouble import Trouble, first_failure
from orchestrator.model.job import JobId

AWAY = TryAgainError("GitHub is away", reason="github_unavailable", fix="look at the proxy")
LIMITED = TryAgainError("too much", reason="github_rate_limited", fix="")
TIMING = SourceTiming(retry_first=0.001, retry_longest=0.002, naming_limit=30)


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "orchestrator.intake.github")

    def lines():
        found = [(record.levelname, record.getMessage()) for record in caplog.records]
        caplog.clear()
        return found

    return lines


def test_each_reason_is_told_once_and_the_end_too(told):
    trouble = Trouble("listening to scale set default/x of GitHub source acme")
    for _ in range(3):
        trouble.met(AWAY)
    where = "listening to scale set default/x of GitHub source acme"
    assert told() == [
        ("WARNING", f"{where} fails: GitHub is away [github_unavailable]; fix: look at the proxy"),
    ]
    since = trouble.failure.since_ns
    trouble.met(LIMITED)
    assert told() == [("WARNING", f"{where} fails: too much [github_rate_limited]")]
    assert trouble.failure.since_ns == since, "it is the same outage"
    trouble.over()
    trouble.over()
    ((level, text),) = told()
    assert level == "INFO"
    assert text.startswith(f"{where} works again, after ")
    assert trouble.failure is None


def test_an_error_of_others_keeps_its_text_to_itself(told):
    trouble = Trouble("the sweep")
    trouble.met(RuntimeError("token=hunter2"))
    assert trouble.failure.reason == "internal_error"
    assert "hunter2" not in repr(trouble.failure) + repr(told())


def test_a_long_message_is_cut():
    trouble = Trouble("the sweep")
    trouble.met(GiveUpError("x" * 10_000))
    assert len(trouble.failure.message) == 500


def test_an_answer_to_a_poll_mends_listening_only():
    status = SetStatus("acme", "default/x")
    status.naming.met(LIMITED)
    status.listening.met(AWAY)
    assert status.failure.reason == "github_unavailable"
    status.heard(1, None)
    assert status.failure.reason == "github_rate_limited"
    status.naming.over()
    assert status.failure is None
    assert first_failure() is None


def test_why_a_set_waits():
    trouble = Trouble("the sweep")
    trouble.met(AWAY)
    slots = {"coming": 1}
    assert waiting_for(trouble.failure, slots, withheld=1, short=1, free=0) == "github_unavailable"
    assert waiting_for(None, slots, withheld=1, short=1, free=0) == "max_runners"
    assert waiting_for(None, slots, withheld=0, short=1, free=0) == "runners_failing"
    assert waiting_for(None, slots, withheld=0, short=0, free=0) == "pool_full"
    assert waiting_for(None, slots, withheld=0, short=0, free=1) == ""
    assert waiting_for(None, {"coming": 0}, withheld=0, short=0, free=0) == ""


def message(queued: int | None = None, began: int | None = None) -> JobMessage:
    return JobMessage(JobMessageKind.STARTED, "job", runner_name="r", queued_at_ns=queued, runner_assigned_at_ns=began)


def failing(times: int, error: Exception = AWAY):
    left = [times]

    async def tell(_job: JobMessage) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return tell


async def test_one_failure_to_name_is_usual_and_the_second_is_shown(told):
    trouble = Trouble("naming jobs")
    telling = Telling(TIMING, trouble)
    await telling.tell(failing(1), message())
    assert told() == []
    await telling.tell(failing(3), message())
    assert [level for level, _ in told()] == ["WARNING", "INFO"]
    assert trouble.failure is None


async def test_naming_works_again_when_nothing_is_left_that_was_tried_in_vain():
    trouble, gate = Trouble("naming jobs"), asyncio.Event()
    telling = Telling(TIMING, trouble)

    async def until_open(_job: JobMessage) -> None:
        if not gate.is_set():
            raise AWAY

    waiting = asyncio.create_task(telling.tell(until_open, message()))
    while trouble.failure is None:
        await asyncio.sleep(0.001)
    await telling.tell(failing(0), message())
    assert trouble.failure is not None, "another's success is not the end of it"
    gate.set()
    await waiting
    assert trouble.failure is None


async def test_what_cannot_be_named_is_told_and_is_no_lasting_trouble(told):
    trouble = Trouble("naming jobs")
    telling = Telling(SourceTiming(retry_first=0.001, retry_longest=0.002, naming_limit=0.05), trouble)
    await telling.tell(failing(10**6), message())
    await telling.tell(failing(1, GiveUpError("no", reason="runner_unknown")), message())
    await telling.tell(failing(1, RuntimeError("a defect")), message())
    lines = told()
    assert [level for level, text in lines if "stays unknown" in text] == ["ERROR", "WARNING", "ERROR"]
    assert not any("works again" in text for _, text in lines)
    assert trouble.failure is None


def test_each_record_waits_once():
    waits, second = Waits(), 10**9
    waits.saw("default/x", JobId("a.1.1"), message(0, 3 * second))
    waits.saw("default/x", JobId("a.1.1"), message(0, 3 * second))
    waits.saw("default/x", JobId("a.2.1"), message(0, 10**4 * second))
    waits.saw("default/x", JobId("a.3.1"), message(5 * second, 4 * second))
    waits.saw("default/x", JobId("a.4.1"), message(None, second))
    seen = waits.of("default/x")
    assert seen.counts == (1, 0, 1, *[0] * 10, 1)
    assert len(seen.counts) == len(BOUNDS) + 1
    assert seen.seconds == 10_003
    assert sum(waits.of("default/y").counts) == 0


def test_what_is_remembered_of_waits_is_bounded():
    waits = Waits()
    for number in range(5000):
        waits.saw("x", JobId(f"a.{number}.1"), message(0, 1))
    assert len(waits._counted) == 4096
    assert sum(waits.of("x").counts) == 5000
