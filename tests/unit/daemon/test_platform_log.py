"""A platform's job in the daemon's log: its name, policy's answer, and its end."""

from __future__ import annotations

import logging

import pytest

from orchestrator.daemon.platform_log import PlatformLog
from orchestrator.model.record import fold
from orchestrator.testing import stories


@pytest.fixture
def told(caplog):
    """The lines that a story's facts write, with the record as it is when each has been stored."""
    caplog.set_level(logging.INFO, "orchestrator.daemon.platform_log")

    def tell(story, *, forgotten=False):
        facts = stories.facts_for(stories.platform_offer(), stories.PLATFORM[story])
        for number, fact in enumerate(facts, 1):
            record = None if forgotten else fold(facts[:number])
            PlatformLog(lambda _id, record=record: record).observe([fact])
        return caplog.records

    return tell


@pytest.mark.parametrize("story", ["success", "completed_after_exit", "named_after_exit"])
def test_one_line_for_the_name_and_one_for_the_end(told, story):
    named, completed = told(story)
    assert (named.levelname, named.getMessage()) == ("INFO", "a platform's job is named")
    assert (completed.levelname, completed.getMessage()) == ("INFO", "a platform's job is completed")
    for line in (named, completed):
        assert line.job_id == stories.platform_offer().key.id
        assert line.platform_key == "platform.example/101/9001/1/31337"
        assert line.repository == "octo/site"
    assert (named.proof, named.verdict) == ("oidc", "allow")
    assert (completed.result, completed.told_by) == ("succeeded", "message")


def test_a_job_that_policy_does_not_want(told):
    (line,) = told("refused")
    assert line.getMessage() == "a platform's job is named, and not allowed by policy"
    assert line.verdict == "deny"


def test_a_runner_without_a_job_is_no_line(told):
    assert told("no_job") == []


def test_an_end_that_comes_when_the_record_is_gone(told):
    completed = told("success", forgotten=True)[-1]
    assert (completed.platform_key, completed.repository) == ("", "")
