"""What the Actions service says, in its own shapes, with every irregularity that was seen."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.scale_sets.messages import JobMessageKind, Statistics
from orchestrator.intake.github.scale_sets.service_answers import (
    parse_acquirable,
    parse_acquired,
    parse_groups,
    parse_jit_config,
    parse_message,
    parse_runners,
    parse_scale_set,
    parse_session,
)

ASSIGNED = {
    "messageType": "JobAssigned",
    "runnerRequestId": 0,
    "jobId": "6b1f3c1e-0d55-5c0c-9a53-1d2f4f0f2a11",
    "ownerName": "acme",
    "repositoryName": "shop",
    "jobWorkflowRef": "acme/shop/.github/workflows/ci.yml@refs/heads/main",
    "jobDisplayName": "test (3.13)",
    "workflowRunId": 9001,
    "eventName": "push",
    "requestLabels": ["zt-small"],
    "queueTime": "2026-01-01T10:00:00.1Z",
    "scaleSetAssignTime": "2026-01-01T10:00:01.2Z",
    "runnerAssignTime": "0001-01-01T00:00:00Z",
    "finishTime": "0001-01-01T00:00:00Z",
    "inventedLater": {"x": 1},
}
STARTED = ASSIGNED | {"messageType": "JobStarted", "runnerId": 4711, "runnerName": "r-1"}
COMPLETED = STARTED | {"messageType": "JobCompleted", "result": "Succeeded", "finishTime": "2026-01-01T10:02:00Z"}


def envelope(jobs, **more):
    body = jobs if isinstance(jobs, str) else json.dumps(jobs)
    statistics = {"totalAssignedJobs": 1, "totalRunningJobs": -1}
    whole = {"messageId": 12, "messageType": "RunnerScaleSetJobMessages", "body": body, "statistics": statistics}
    return json.dumps(whole | more).encode()


def test_started_and_completed_of_one_job_in_one_envelope():
    message = parse_message(envelope([ASSIGNED, STARTED, COMPLETED]))
    assigned, started, completed = message.jobs
    assert (message.id, message.skipped, message.statistics) == (12, 0, Statistics(assigned=1))
    assert [job.kind for job in message.jobs] == [
        JobMessageKind.ASSIGNED,
        JobMessageKind.STARTED,
        JobMessageKind.COMPLETED,
    ]
    assert assigned.queued_at_ns == 1_767_261_600_100_000_000
    assert assigned.assigned_at_ns == 1_767_261_601_200_000_000
    assert (assigned.runner_assigned_at_ns, assigned.finished_at_ns, assigned.runner_name) == (None, None, "")
    assert (started.runner_id, started.runner_name, started.run_id) == (4711, "r-1", 9001)
    assert (completed.result, completed.labels) == ("succeeded", ("zt-small",))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("succeeded", "succeeded"),
        ("Canceled", "canceled"),
        ("cancelled", "canceled"),
        ("Failed", "failed"),
        ("new", "new"),
    ],
)
def test_results_are_spelled_one_way(written, read):
    assert parse_message(envelope([COMPLETED | {"result": written}])).jobs[0].result == read


@pytest.mark.parametrize("body", ["", "[]", "  "])
def test_an_envelope_of_statistics_alone(body):
    message = parse_message(envelope(body))
    assert (message.jobs, message.skipped) == ((), 0)


@pytest.mark.parametrize("body", ["{", '{"a":1}', "null"])
def test_a_body_that_cannot_be_read_is_counted_for_it_would_come_for_ever(body):
    message = parse_message(envelope(body))
    assert (message.id, message.jobs, message.skipped) == (12, (), 1)


def test_one_bad_job_does_not_hide_the_others():
    bad = [3, ASSIGNED | {"queueTime": "soon"}, ASSIGNED | {"messageType": "JobDreamt"}, {"messageType": "JobStarted"}]
    message = parse_message(envelope([*bad, STARTED]))
    assert ([job.kind for job in message.jobs], message.skipped) == ([JobMessageKind.STARTED], 4)


def test_an_envelope_of_another_kind_has_no_jobs():
    message = parse_message(envelope([ASSIGNED], messageType="Party"))
    assert (message.jobs, message.skipped) == ((), 1)


def test_statistics_that_cannot_be_read_are_none():
    assert parse_message(envelope([STARTED], statistics={"totalAssignedJobs": "many"})).statistics is None
    assert parse_message(envelope([STARTED], statistics=None)).statistics is None


@pytest.mark.parametrize("number", [0, -1, None, "x"])
def test_without_an_id_there_is_no_envelope(number):
    with pytest.raises(UnreadableAnswerError):
        parse_message(envelope([], messageId=number))


def test_a_jit_configuration_is_shown_to_nobody():
    made = parse_jit_config(b'{"runner":{"id":4711,"name":"r-1"},"encodedJITConfig":"c2VjcmV0"}')
    assert (made.runner_id, made.name, made.encoded) == (4711, "r-1", "c2VjcmV0")
    assert "c2VjcmV0" not in repr(made)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"runner":{"id":1,"name":"r"}}',
        b'{"encodedJITConfig":"c2VjcmV0"}',
        b'{"runner":{"id":0},"encodedJITConfig":"c2VjcmV0"}',
    ],
)
def test_half_a_jit_configuration_is_none(body):
    with pytest.raises(UnreadableAnswerError) as caught:
        parse_jit_config(body)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_session_hides_its_token():
    facts = parse_session(
        b'{"sessionId":"s","messageQueueUrl":"https://q","messageQueueAccessToken":"hidden","statistics":null}'
    )
    assert (facts.id, facts.queue_url, facts.token, facts.statistics) == ("s", "https://q", "hidden", None)
    assert "hidden" not in repr(facts)


def test_scale_sets_know_which_labels_are_missing():
    body = {
        "id": 5,
        "name": "zt",
        "runnerGroupId": 1,
        "labels": [{"type": "System", "name": "ZT"}],
        "RunnerSetting": {},
    }
    found = parse_scale_set(json.dumps(body).encode())
    assert found.labels == ("ZT",)
    assert found.lacks(["zt", "gpu"]) == ("gpu",)
    with pytest.raises(UnreadableAnswerError):
        parse_scale_set(b'{"name":"zt"}')


def test_small_lists():
    assert parse_acquired(b'{"count":1,"value":[1001]}') == [1001]
    with pytest.raises(UnreadableAnswerError):
        parse_acquired(b'{"value":["1001"]}')
    assert parse_acquirable(b"") == []
    assert parse_acquirable(b'{"value":[{"runnerRequestId":7}]}')[0].request_id == 7
    assert parse_groups(b'{"value":[{"id":3,"name":"ci","isDefaultGroup":false}]}')[0].id == 3
    runner = parse_runners(b'{"value":[{"id":9,"name":"r","status":3,"busy":true}]}')[0]
    assert (runner.id, runner.status, runner.busy) == (9, "", True)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_job = st.fixed_dictionaries({name: _json | st.just(value) for name, value in COMPLETED.items()})


@given(st.lists(_job, max_size=3), _json)
def test_no_job_message_can_break_an_envelope(jobs, statistics):
    message = parse_message(envelope(jobs, statistics=statistics))
    assert len(message.jobs) + message.skipped == len(jobs)


def test_a_job_whose_id_cannot_be_encoded_does_not_hold_up_the_others():
    """It would come again for ever, and nothing behind it."""
    jobs = [{"messageType": "JobAssigned", "jobId": word} for word in ("a", "b\ud800", "c")]
    envelope = {"messageId": 1, "messageType": "RunnerScaleSetJobMessages", "body": json.dumps(jobs)}
    message = parse_message(json.dumps(envelope).encode())
    assert ([job.job_id for job in message.jobs], message.skipped) == (["a", "c"], 1)
