"""What a receipt proves of P3 and P4, and what it must not be taken for."""

from __future__ import annotations

import msgspec
import pytest
from told_job import SECOND, facts_of, token, told

from orchestrator.evidence.receipts.judging import judge
from orchestrator.lifecycle.ports import Withdrawn
from orchestrator.model import events as e


def texts(receipt, promise: str, *, holds: bool = True) -> list[str]:
    return [found.text for found in judge(receipt) if (found.promise, found.holds) == (promise, holds)]


def broken(receipt) -> list[str]:
    return [f"{found.promise}: {found.text}" for found in judge(receipt) if not found.holds]


def test_a_clean_teardown_says_when_and_by_whom_it_was_seen():
    receipt = told()
    assert broken(receipt) == []
    assert texts(receipt, "P3") == [
        "nothing of the runner was left 2.000 s after the end, seen by launcher",
        "ways in and out were taken away: runner_api_listener closed, egress_gateway closed",
    ]
    assert texts(receipt, "P4") == [
        "the runner's credential and all tokens of ours are refused by us since 2027-01-15T08:00:09.000000Z",
        "no token was given out",
    ]


def test_tokens_and_sessions_by_their_latest_possible_end():
    short, long = token("a", session_expires_at=1_800_000_900), token("b", session_expires_at=1_800_003_900)
    assert texts(told(short, long), "P4")[1:] == [
        "who never asks us may accept one of 2 until 2027-01-15T08:05:00.000000Z",
        "the last session made from them ends by 2027-01-15T09:05:00.000000Z",
    ]


def test_a_session_whose_end_is_not_known_is_never_given_one():
    receipt = told(token("a", session_expires_at=1_800_000_900), token("b", "cloud.example"))
    assert texts(receipt, "P4")[-1] == "when sessions end is unknown to us, their targets decide: cloud.example"


def test_a_revoked_credential_has_no_end_to_wait_for():
    receipt = told(
        token("a", "github:acme", kind="github_installation"), e.CredentialRevoked("a", "github_installation")
    )
    assert len(texts(receipt, "P4")) == 1


def test_what_is_left_breaks_the_promise():
    receipt = told(access=(Withdrawn("github_registration", "busy", left=True),))
    assert broken(receipt) == ["P3: left behind: github_registration (busy)"]


@pytest.mark.parametrize(("alarms", "count"), [((), 1), ((e.AlarmRaised("teardown_stuck", "pod"),), 0)])
def test_a_late_teardown_is_one_only_without_an_alarm(alarms, count):
    late = facts_of(*alarms)[-1].at_ns + 70 * SECOND
    receipt = told(*alarms, absent_ns=late, sealed_ns=late, checked_ns=late)
    assert len(broken(receipt)) == count


@pytest.mark.parametrize("absent", ["", "2027-01-15T08:00:00.000000Z", "soon", "2027-01-15T08:00:11"])
def test_a_runner_that_nobody_saw_to_be_gone_after_the_end(absent):
    receipt = told()
    blind = msgspec.structs.replace(receipt, runner=msgspec.structs.replace(receipt.runner, absent=absent))
    assert broken(blind) == ["P3: nobody saw the runner to be gone after the job's end"]


def test_tokens_that_nobody_saw_to_be_refused():
    receipt = told(token())
    assert broken(msgspec.structs.replace(receipt, refused=None)) == [
        "P4: tokens were given out, and nobody saw them to be refused"
    ]
    later = msgspec.structs.replace(receipt.refused, since="2027-01-15T08:00:12.000000Z")
    assert len(broken(msgspec.structs.replace(receipt, refused=later))) == 1
