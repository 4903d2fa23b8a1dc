"""Why a job waits and why it ended: every reason has its sentence and its next step, with the figures behind them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.observation import SECOND
from orchestrator.lifecycle.why import Surroundings, Why, figure, told, why
from orchestrator.lifecycle.why_ended import BY_WAIT, NEXT_STEPS
from orchestrator.lifecycle.why_hints import MAX_HINTS, hints
from orchestrator.lifecycle.why_words import Progress, words
from orchestrator.model import events as e
from orchestrator.model.decision import Decision, Reason, Stage, Verdict
from orchestrator.model.job import PoolName
from orchestrator.model.journey import RunnerStage
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record, apply
from orchestrator.testing import stories
from tests.unit.lifecycle import records

REASONS = (Path(__file__).parents[3] / "docs/reference/reasons.md").read_text(encoding="utf-8")
AROUND = Surroundings(records.DEADLINES, records.POOL, in_use=2, before=3)
PLATFORM = stories.platform_offer()


def waited(reason: e.WaitReason, detail: str = "", *steps: e.Event) -> Record:
    return records.record(*(steps or records.TO_PROVISIONING), e.JobWaited(reason, detail))


def ended(reason: EndReason, result: Result = Result.ERROR, message: str = "what happened", *more: e.Event) -> Record:
    return records.record(*records.TO_RUNNING, e.JobEnded(Outcome(result, reason, message, 3)), *more)


def fits(answer: Why) -> None:
    """One sentence on one line, with a next step, and nothing that was left to fill in."""
    for text in (answer.sentence, answer.next_step):
        assert re.fullmatch(r"[A-Z].*\.", text), text
        assert "\n" not in text
        assert "{" not in text
        assert ".." not in text
        assert len(text) < 700


@pytest.mark.parametrize("reason", e.WaitReason)
def test_every_reason_to_wait_has_a_sentence_a_next_step_and_an_anchor(reason: e.WaitReason):
    record = replace(waited(e.WaitReason.POOL_FULL), wait=e.JobWaited(reason, "what the other side said."))
    for around in (Surroundings(), AROUND):
        answer = why(record, around)
        fits(answer)
        assert (answer.reason, answer.pending) == (reason.value, True)
    assert f"### `{reason.value}`" in REASONS


@pytest.mark.parametrize("reason", EndReason)
def test_every_reason_of_an_end_has_a_sentence_a_next_step_and_an_anchor(reason: EndReason):
    for result in Result:
        fits(why(ended(reason, result), AROUND))
    answer = why(ended(reason), AROUND)
    assert (answer.reason, answer.pending) == (reason.value, False)
    assert f"### `{reason.value}`" in REASONS
    assert "`orchestrator" not in answer.next_step or "{job}" not in answer.next_step


def test_of_many_reasons_of_policy_the_sentence_has_the_first_and_the_number_of_the_others():
    approval, scan = (
        Reason("not_approved", "Nobody has approved this."),
        Reason("scan_missing", "no scan; " + "x" * 400),
    )
    counted = (((), ""), ((scan,), " for 2 reasons, the first"), ((scan, scan), " for 3 reasons, the first"))
    for more, count in counted:
        said = Decision("d", Stage.ADMISSION, Verdict.DENY, (approval, *more)).explain()
        answer = why(ended(EndReason.POLICY_DENIED, Result.DENIED, said), AROUND)
        said = f"Policy denied the job{count}: Nobody has approved this [not_approved]; its credentials"
        assert answer.sentence.startswith(said)
        fits(answer)


def test_no_reason_of_an_end_is_without_its_own_next_step():
    assert set(NEXT_STEPS) == set(EndReason)


@pytest.mark.parametrize(
    ("steps", "stage", "said"),
    [
        (records.TO_BINDING, None, "The runner is made and starts"),
        (records.TO_BINDING, RunnerStage.SCHEDULE, "waits for a machine."),
        (records.TO_BINDING, RunnerStage.SANDBOX, "isolation and network."),
        (records.TO_BINDING, RunnerStage.PULL_AGENT, "gets the agent's image and makes its container."),
        (records.TO_BINDING, RunnerStage.START, "The runner is made and starts"),
        (records.TO_RUNNING, RunnerStage.PULL_JOB, "its machine gets the job's image and makes its container"),
        (records.TO_RUNNING, RunnerStage.RUN, "The job is running"),
    ],
)
def test_a_runner_that_starts_says_what_it_is_at(steps: list[e.Event], stage: RunnerStage | None, said: str):
    answer = why(records.record(*steps), replace(AROUND, stage=stage))
    assert said in answer.sentence
    fits(answer)


@pytest.mark.parametrize("progress", Progress)
def test_every_word_of_progress_has_an_anchor(progress: Progress):
    assert f"### `{progress.value}`" in REASONS


@pytest.mark.parametrize(
    ("steps", "progress", "limit"),
    [
        ((), Progress.POLICY_PENDING, 10),
        (records.TO_WAITING, Progress.PLACE_PENDING, 20),
        (records.TO_PROVISIONING, Progress.RUNNER_CREATING, 30),
        (records.TO_BINDING, Progress.CLAIM_PENDING, 40),
        (records.TO_RUNNING, Progress.RUNNING, 600),
    ],
)
def test_a_job_without_a_reason_to_wait_says_what_it_does_since_when_and_until_when(
    steps: list[e.Event], progress: Progress, limit: int
):
    record = records.record(*steps)
    for around in (Surroundings(), AROUND):
        fits(why(record, around))
    answer = why(record, AROUND)
    assert (answer.reason, answer.since_ns) == (progress, record.phase_since_ns)
    assert answer.gives_up_at_ns == record.phase_since_ns + limit * SECOND


PLATFORM_STATES = {
    Progress.NAME_PENDING: ([], 60),
    Progress.RUNNING: ([stories.NAMED], 600),
    Progress.REFUSAL_SHOWN: ([stories.NAMED_REFUSED], 7),
    Progress.RUNNER_ENDING: ([stories.NAMED, stories.COMPLETED], 8),
    Progress.COMPLETION_PENDING: ([stories.NAMED, stories.EXITED], 8),
}


@pytest.mark.parametrize("progress", PLATFORM_STATES)
def test_a_runner_that_its_platform_uses_says_what_it_waits_for(progress: Progress):
    steps, limit = PLATFORM_STATES[progress]
    record = records.record(*records.TO_RUNNING, *steps, the_offer=PLATFORM)
    answer = why(record, AROUND)
    fits(answer)
    assert answer.reason == progress
    assert answer.gives_up_at_ns - answer.since_ns == limit * SECOND


def test_a_full_pool_is_told_with_its_figures_and_the_place_in_the_line():
    record = waited(e.WaitReason.POOL_FULL, "all 2 runners of pool 'default' are in use", *records.TO_WAITING)
    said = "The job waits for a place in pool 'default'"
    assert why(record, AROUND).sentence == f"{said}: 2 of 2 places are taken, and 3 jobs are before it in the line."
    assert why(record, replace(AROUND, before=1)).sentence.endswith("and 1 job is before it in the line.")
    assert why(record, replace(AROUND, before=0)).sentence.endswith("and it is the next in line.")
    assert why(record).sentence == "The job waits for a place: all 2 runners of pool 'default' are in use."


@pytest.mark.parametrize("reason", e.WaitReason)
def test_a_sentence_names_the_pool_once(reason: e.WaitReason):
    """What backends say of a pool has its name; without their word it is ours to tell."""
    for detail in ("", "all 2 runners of pool 'default' are in use", "pool default lacks the NetworkPolicy runners"):
        record = replace(waited(reason, *records.TO_WAITING), wait=e.JobWaited(reason, detail))
        if reason in (e.WaitReason.POOL_FULL, e.WaitReason.GUARD_MISSING):
            assert why(record).sentence.count("default") == 1, why(record).sentence
        assert why(record, AROUND).sentence.count("'default'") <= 1 + detail.count("'default'")


@pytest.mark.parametrize(("reason", "last"), BY_WAIT)
def test_what_a_job_waited_for_last_tells_what_to_do_about_its_end(reason: EndReason, last: e.WaitReason):
    record = replace(ended(reason), wait=e.JobWaited(last, "its words"))
    answer = why(record, AROUND)
    fits(answer)
    assert answer.next_step != why(replace(record, wait=None), AROUND).next_step
    assert answer.reason == reason.value


def test_a_job_that_waited_until_its_end_is_ended_with_that_wait_on_record():
    """Or the step above would never be told."""
    full = waited(e.WaitReason.QUOTA_EXHAUSTED, "exceeded quota")
    over = apply(
        full, e.Fact(full.id, 10**18, e.JobEnded(Outcome(Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT, "x")), 99)
    )
    assert "ResourceQuota" in why(over).next_step


def test_what_the_backend_said_last_is_in_the_sentence():
    record = waited(e.WaitReason.UNSCHEDULABLE, "0/3 nodes are available: 3 Insufficient cpu.", *records.TO_BINDING)
    answer = why(record, AROUND)
    assert answer.sentence.endswith("no machine can take it now: 0/3 nodes are available: 3 Insufficient cpu.")


def test_the_backend_is_named_and_a_vanished_runner_says_where_it_went():
    assert "backend 'memory'" in why(waited(e.WaitReason.BACKEND_UNAVAILABLE, "refused")).sentence
    gone = records.record(*records.TO_BINDING, e.RunnerVanished(stories.RUNNER, "the pod is not found"))
    assert "before it had the work: the pod is not found; another one" in why(gone).sentence


def test_an_obstacle_is_given_up_by_its_own_limit_and_never_after_its_stage():
    record = waited(e.WaitReason.IMAGE_PULL, "not found", *records.TO_BINDING)
    since = record.wait_since_ns
    assert why(record, AROUND).gives_up_at_ns == record.phase_since_ns + records.DEADLINES.capacity_ns
    limited = replace(AROUND, obstacle_ns={e.WaitReason.IMAGE_PULL: 5 * SECOND})
    assert why(record, limited).gives_up_at_ns == since + 5 * SECOND
    longer = replace(AROUND, obstacle_ns={e.WaitReason.IMAGE_PULL: 500 * SECOND})
    assert why(record, longer).gives_up_at_ns == record.phase_since_ns + records.DEADLINES.capacity_ns


@pytest.mark.parametrize(
    ("reason", "limit"),
    [(e.WaitReason.BACKEND_UNAVAILABLE, 30), (e.WaitReason.QUOTA_EXHAUSTED, 20), (e.WaitReason.GUARD_MISSING, 20)],
)
def test_waiting_for_room_is_given_up_later_than_waiting_for_an_answer(reason: e.WaitReason, limit: int):
    record = waited(reason)
    assert why(record, AROUND).gives_up_at_ns == record.phase_since_ns + limit * SECOND


def test_another_wording_of_the_same_reason_does_not_begin_the_wait_again():
    first = waited(e.WaitReason.BACKEND_UNAVAILABLE, "refused")
    before = (*records.TO_PROVISIONING, e.JobWaited(e.WaitReason.BACKEND_UNAVAILABLE))
    again = waited(e.WaitReason.BACKEND_UNAVAILABLE, "reset", *before)
    assert why(again).since_ns == why(first).since_ns
    other = waited(e.WaitReason.QUOTA_EXHAUSTED, "", *before)
    assert why(other).since_ns > why(first).since_ns


@pytest.mark.parametrize(
    ("wish", "policy", "owner"),
    [
        (0, None, "10 min by its pool's limit"),
        (60, None, "1 min by its own wish"),
        (60, 30, "30 s by policy"),
    ],
)
def test_a_running_job_says_how_long_it_may_run_and_by_whose_word(wish: int, policy: int | None, owner: str):
    record = records.record(*records.TO_RUNNING, the_offer=stories.offer(timeout_seconds=wish))
    record = replace(record, obligations=replace(record.obligations, max_duration_seconds=policy))
    assert owner in why(record, AROUND).sentence


def test_a_draining_daemon_begins_nothing_but_goes_on_with_what_runs():
    draining = replace(AROUND, draining=True)
    assert why(records.record(), draining).reason == Progress.DRAINING
    assert why(records.record(), draining).since_ns == 0, "the job may be older than the drain"
    assert why(waited(e.WaitReason.POOL_FULL, "", *records.TO_WAITING), draining).reason == Progress.DRAINING
    assert why(records.record(*records.TO_RUNNING), draining).reason == Progress.RUNNING


def test_who_cancelled_is_told_before_and_after_the_end():
    pending = why(records.record(*records.TO_RUNNING, records.CANCEL))
    assert pending.sentence == "The job is being cancelled: alice asked for its end (wrong branch)."
    over = why(records.record(records.CANCEL, stories.end(Result.CANCELLATION, EndReason.CANCELLED), stories.FINISHED))
    assert over.sentence == "The job was cancelled: alice asked for its end (wrong branch)."


FULL = TryAgainError(
    "the journal cannot store facts: database or disk is full",
    reason="journal_unavailable",
    fix="free space on the file system of /state/journal.db; the daemon goes on by itself",
)
DISK = replace(AROUND, unrecorded=FULL, trouble="what an earlier try ran into")


@pytest.mark.parametrize(
    "record",
    [
        records.record(),
        records.record(*records.TO_WAITING),
        waited(e.WaitReason.POOL_FULL, "", *records.TO_WAITING),
        records.record(*records.TO_PROVISIONING),
        waited(e.WaitReason.IMAGE_PULL, "not found", *records.TO_BINDING),
        records.record(*records.TO_RUNNING),
        records.record(*records.TO_RUNNING, records.CANCEL),
        records.record(*records.TO_RUNNING, stories.NAMED, the_offer=PLATFORM),
    ],
    ids=lambda record: f"{record.phase}-{record.wait.reason if record.wait else record.cancel is not None}",
)
def test_a_full_disk_is_the_cause_whatever_else_an_unfinished_job_waits_for(record: Record):
    for around in (DISK, replace(DISK, draining=True)):
        answer = why(record, around)
        fits(answer)
        assert answer.sentence.endswith(" now: the journal cannot store facts: database or disk is full.")
        assert answer.next_step == (
            "Operators: free space on the file system of /state/journal.db; the daemon goes on by itself."
        )
        assert (answer.reason, answer.pending, answer.gives_up_at_ns) == ("journal_unavailable", True, 0)
        assert "earlier try" not in answer.sentence
    assert f"### `{answer.reason}`" in REASONS


def test_who_cancelled_is_told_also_while_the_disk_is_full():
    sentence = why(records.record(*records.TO_RUNNING, records.CANCEL), DISK).sentence
    assert sentence.startswith(
        "The job is being cancelled: alice asked for its end (wrong branch); its end cannot be recorded now: "
    )


def test_a_job_that_ended_before_the_disk_was_full_keeps_its_reason():
    record = ended(EndReason.EXIT_NONZERO, Result.FAILURE, "the job exited with code 3")
    answer = why(record, DISK)
    fits(answer)
    assert answer.sentence.startswith("The job failed: the job exited with code 3; its credentials")
    assert "; nothing more of it can be recorded now: the journal cannot store facts: database or" in answer.sentence
    assert "`orchestrator logs" in answer.next_step
    assert answer.next_step.endswith(
        "; operators: free space on the file system of /state/journal.db; the daemon goes on by itself."
    )
    assert answer.reason == EndReason.EXIT_NONZERO
    finished = replace(record, phase=Phase.FINISHED)
    assert why(finished, DISK) == why(finished, AROUND), "what is over needs no disk"


def test_a_problem_without_a_fix_sends_people_to_the_log():
    nameless = replace(AROUND, unrecorded=TryAgainError("the audit log cannot be written", reason="audit_unavailable"))
    assert why(records.record(), nameless).next_step == "Operators: see the daemon's log."


def test_the_last_trouble_is_told_where_no_fact_names_it():
    trouble = replace(AROUND, trouble="policy: no answer within 30 s.")
    assert "the last try failed: policy: no answer within 30 s." in why(records.record(), trouble).sentence
    assert "the last try failed: policy" in why(ended(EndReason.COMPLETED), trouble).sentence


def test_an_ended_job_says_how_far_its_tidying_up_is():
    end = ended(EndReason.EXIT_NONZERO, Result.FAILURE, "the job exited with code 3")
    said = "The job failed: the job exited with code 3"
    assert why(end).sentence == f"{said}; its credentials and its runner are being taken away."
    deleted = ended(EndReason.EXIT_NONZERO, Result.FAILURE, "the job exited with code 3", stories.DELETED)
    assert why(deleted).sentence == f"{said}; its runner is deleted, and is looked for until it is gone."
    assert "an alarm is raised" in why(replace(deleted, alarmed=True)).sentence
    finished = replace(deleted, phase=Phase.FINISHED)
    assert why(finished).sentence == f"{said}."
    assert stories.offer().key.id in why(finished).next_step


def test_the_figures_are_told_for_what_goes_on_and_not_for_what_is_over():
    answer = Why("The job waits.", "Wait.", "pool_full", 10 * SECOND, 250 * SECOND)
    assert told(answer, 70 * SECOND) == "The job waits (for 1 min; given up in 3 min at the earliest)."
    assert told(answer, 300 * SECOND) == "The job waits (for 4 min 50 s)."
    assert told(answer, 10 * SECOND) == "The job waits (given up in 4 min at the earliest)."
    assert told(replace(answer, pending=False), 70 * SECOND) == "The job waits."
    runs = replace(answer, sentence="The job runs.", reason=Progress.RUNNING)
    assert told(runs, 70 * SECOND) == "The job runs (for 1 min; ended in 3 min at the latest).", "it is no wait"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (185, "3 min 5 s"), (7200, "2 h"), (10_620, "2 h 57 min"), (100_800, "1 d 4 h")],
)
def test_spans_are_told_in_their_two_largest_units(seconds: float, text: str):
    assert figure(int(seconds * SECOND)) == text


@settings(max_examples=40)
@given(st.text(max_size=2000))
def test_others_words_never_break_the_sentence(text: str):
    """A backend's message, a policy's reason and a caller's name are theirs; the line and its length are ours."""
    pool = Pool(PoolName("p"), "memory", records.POOL.trust_tier, 1, "b", "none")
    around = replace(AROUND, pool=pool, trouble=text)
    for record in (
        waited(e.WaitReason.IMAGE_PULL, text),
        records.record(e.JobCancelRequested(text, text)),
        ended(EndReason.EXIT_NONZERO, Result.FAILURE, text),
        records.record(),
    ):
        answer = why(record, around)
        assert answer.sentence.isprintable()
        assert len(answer.sentence) < 1100
        assert answer.sentence.endswith(".")
    assert len(words(text)) <= 300


def refused(host: str, reason: str = "not_allowed", connections: int = 1) -> e.EgressDecided:
    return e.EgressDecided(host, 443, "tls", allowed=False, rule="", reason=reason, connections=connections)


def told_hints(*events: e.Event) -> tuple[str, ...]:
    return hints(stories.facts_for(stories.offer(), events))


def test_denied_connections_and_tokens_may_explain_an_end_and_the_agents_own_proof_does_not():
    assert told_hints(stories.CANARY, replace(stories.DENIED_HOST, allowed=True)) == ()
    found = told_hints(
        *(refused(f"{name}.example") for name in "abcd"),
        refused("d.example", connections=5),
        e.TokenRefused("sts.example", "trust_denied", detail="ref is not main"),
        e.AlarmRaised("second_claim", "runner uid 7"),
        e.AlarmRaised("second_claim", "runner uid 7"),
        e.JobFinished(("pod runner-1",)),
    )
    lately = ", ".join(f"{name}.example:443 (not_allowed)" for name in "bcd")
    assert found == (
        f"The gateway refused 9 connections, lately to {lately} and 1 more: the pool and policy do not allow them.",
        "A token was refused, lately for the audience 'sts.example': trust_denied, ref is not main.",
        "An alarm was raised: second_claim, runner uid 7.",
        "Left behind: pod runner-1.",
    )


def test_hints_are_bounded():
    alarms = [e.AlarmRaised(f"alarm_{number}", "x") for number in range(100)]
    assert len(told_hints(*alarms)) == MAX_HINTS
    assert why(ended(EndReason.COMPLETED), replace(AROUND, hints=("One.",))).hints == ("One.",)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (EndReason.OUT_OF_MEMORY, "The job was ended for want of memory: "),
        (EndReason.UNKNOWN_POOL, "The job asked for a pool that is not there: "),
    ],
)
def test_an_end_that_the_job_can_do_something_about_is_not_called_an_error_of_somebody_else(reason, sentence):
    answer = why(ended(reason), AROUND)
    assert answer.sentence.startswith(sentence)
    assert "not its own" not in answer.sentence
