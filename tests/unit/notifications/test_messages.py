import json

import pytest
from jsonschema_rs import Draft202012Validator

from orchestrator.model import events as e
from orchestrator.model.moment import rfc3339
from orchestrator.model.outcome import EndReason, Result
from orchestrator.notifications.endpoint import Format
from orchestrator.notifications.messages import message_of, trial_message
from orchestrator.notifications.notices import clean
from orchestrator.telemetry.ids import trace_id
from orchestrator.testing import stories
from orchestrator.testing.stories import T0, WHOLE, facts_for, offer
from tests.unit.notifications.cdevents_schemas import CUSTOM_SCHEMA, SCHEMAS
from tests.unit.notifications.plain import ORIGIN, URL, job_url
from tests.unit.notifications.test_notices import _ONE_OF_EACH, notices

JOB = offer().key.id
VALIDATORS = {
    kind: Draft202012Validator(schema, validate_formats=True) for kind, schema in {"": CUSTOM_SCHEMA, **SCHEMAS}.items()
}
"""By type; the one without is for events of our own."""
EVERY = [event for event, _ in _ONE_OF_EACH.values() if not isinstance(event, e.JobOffered)]


def sent(notice, form, *, sentence=False):
    message = message_of(clean(notice, str, sentence=sentence), "msg_1", 5, form, ORIGIN)
    return dict(message.headers), json.loads(message.body)


def test_a_webhook_has_the_standards_shape():
    ended = notices(offer(), WHOLE["failure"])[-3]
    headers, body = sent(ended, Format.WEBHOOK)
    assert headers == {"content-type": "application/json"}
    assert {name: body[name] for name in ("type", "timestamp", "id", "sequence", "source")} == {
        "type": "job.ended",
        "timestamp": rfc3339(ended.at_ns),
        "id": "msg_1",
        "sequence": 5,
        "source": URL,
    }
    assert body["data"] == {
        "job": {
            "id": JOB,
            "name": "build",
            "pool": "default",
            "source": "dispatch",
            "pipeline": "",
            "attempt": 1,
            "environment": "",
            "url": job_url(JOB),
            "trace_id": trace_id(JOB),
        },
        "seq": ended.seq,
        "result": "failure",
        "reason": "exit_nonzero",
        "exit_code": 1,
        "duration_ms": 60,
    }


def test_a_sentence_is_told_where_it_is_wanted():
    ended = notices(offer(), WHOLE["failure"])[-3]
    assert sent(ended, Format.WEBHOOK, sentence=True)[1]["data"]["message"] == "what happened"
    assert (
        sent(ended, Format.CDEVENTS, sentence=True)[1]["subject"]["content"]["errors"] == "exit_nonzero: what happened"
    )


@pytest.mark.parametrize("by_platform", [False, True], ids=["dispatched", "of a platform"])
def test_every_cdevent_fits_the_specification(by_platform):
    the_offer = offer(awaits_platform_job=by_platform)
    every = notices(
        the_offer, [*EVERY, *(step for steps in WHOLE.values() for step in steps if isinstance(step, e.JobEnded))]
    )
    kinds = set()
    for notice in every:
        headers, body = sent(notice, Format.CDEVENTS, sentence=True)
        kind = body["context"]["type"]
        kinds.add(kind)
        VALIDATORS["" if kind.startswith("dev.cdeventsx.") else kind].validate(body)
        assert body["context"]["specversion"] == "0.5.0"
        assert body["context"]["chainId"] == trace_id(JOB)
        assert body["customData"]["job"]["id"] == JOB
        # CloudEvents' binary mode says the same in headers as the body says
        for header, told in {"id": "id", "source": "source", "type": "type", "time": "timestamp"}.items():
            assert headers[f"ce-{header}"] == body["context"][told]
        assert headers["ce-subject"] == body["subject"]["id"]
        assert headers["ce-specversion"] == "1.0"
        assert headers["content-type"] == "application/cdevents+json"
        assert headers["ce-traceparent"].split("-")[1] == trace_id(JOB)
        assert all(32 <= ord(letter) < 127 for value in headers.values() for letter in value)
    standard = {kind for kind in kinds if kind.startswith("dev.cdevents.")}
    wanted = "taskrun" if by_platform else "pipelinerun"
    assert standard == {kind for kind in SCHEMAS if wanted in kind}


def test_the_test_would_see_a_wrong_event():
    _, body = sent(notices(offer(), WHOLE["failure"])[-3], Format.CDEVENTS)
    validator = VALIDATORS[body["context"]["type"]]
    assert validator.is_valid(body)
    assert not validator.is_valid(body | {"extra": 1})
    assert not validator.is_valid(body | {"context": body["context"] | {"timestamp": "yesterday"}})
    assert not validator.is_valid(body | {"context": body["context"] | {"source": "no URI"}})
    body["subject"]["content"]["outcome"] = "timeout"
    assert not validator.is_valid(body)


@pytest.mark.parametrize(
    ("result", "reason", "outcome"),
    [
        (Result.SUCCESS, EndReason.COMPLETED, "success"),
        (Result.FAILURE, EndReason.EXIT_NONZERO, "failure"),
        (Result.TIMEOUT, EndReason.RUN_TIMEOUT, "failure"),
        (Result.TIMEOUT, EndReason.CAPACITY_TIMEOUT, "error"),
        (Result.ERROR, EndReason.NODE_LOST, "error"),
        (Result.CANCELLATION, EndReason.CANCELLED, "cancel"),
        (Result.DENIED, EndReason.POLICY_DENIED, "error"),
    ],
)
def test_an_outcome_is_cdevents_word(result, reason, outcome):
    ended = notices(offer(), [stories.end(result, reason)])[-1]
    content = sent(ended, Format.CDEVENTS)[1]["subject"]["content"]
    assert content["outcome"] == outcome
    assert content.get("errors") == (None if outcome == "success" else reason.value)
    assert content["uri"] == job_url(JOB)


@pytest.mark.parametrize("form", Format)
def test_a_test_message_fits_its_format(form):
    message = trial_message("msg_t", form, ORIGIN, T0)
    body = json.loads(message.body)
    if form is Format.WEBHOOK:
        assert (body["type"], body["id"], body["data"]) == ("notification.test", "msg_t", {})
    else:
        VALIDATORS[""].validate(body)
        assert (
            message.headers["ce-type"]
            == body["context"]["type"]
            == "dev.cdeventsx.orchestrator-notification.test.0.1.0"
        )


def test_one_fact_is_always_the_same_message():
    queued = clean(notices(offer(), WHOLE["success"])[0], str, sentence=False)
    first, second = (message_of(queued, "m", 1, Format.WEBHOOK, ORIGIN) for _ in range(2))
    assert first == second
    assert first.seq == facts_for(offer(), [])[0].seq


def test_moments_are_in_utc():
    assert rfc3339(1_790_000_000_123_456_789) == "2026-09-21T14:13:20.123456Z"
