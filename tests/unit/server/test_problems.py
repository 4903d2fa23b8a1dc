"""Errors become the documented problem, and our own defects tell nothing."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.server.entrance import problems
from orchestrator.server.entrance.problems import Fault, ProblemError


def body(response: web.Response) -> dict:
    return json.loads(response.body)


@pytest.mark.parametrize("reason", sorted(problems.REASONS))
def test_every_reason_answers_with_its_status_and_type(reason):
    family = TryAgainError if problems.REASONS[reason].status in (429, 503) else GiveUpError
    response = problems.from_error(family("m", reason=reason), reference="r")
    document = body(response)
    assert response.status == document["status"] == problems.REASONS[reason].status
    assert document["type"] == f"urn:orchestrator:problem:{reason}"
    assert (document["reason"], document["title"]) == (reason, problems.REASONS[reason].title)
    assert response.content_type == "application/problem+json"
    assert ("WWW-Authenticate" in response.headers) is (response.status == 401)
    assert ("Retry-After" in response.headers) is (family is TryAgainError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TryAgainError("x", reason="disk_on_fire"), "temporarily_unavailable"),
        (GiveUpError("x", reason="disk_on_fire"), "internal_error"),
        (GiveUpError("x"), "internal_error"),
        (ConfigurationError("x", reason="queue_full"), "internal_error"),
    ],
)
def test_reasons_that_are_not_documented_stay_inside(error, reason):
    document = body(problems.from_error(error, reference="abc"))
    assert document["reason"] == reason
    assert "disk_on_fire" not in str(document)


def test_an_internal_error_keeps_its_message():
    document = body(problems.from_error(GiveUpError("/var/secret"), reference="abc"))
    assert "/var/secret" not in str(document)
    assert document["reference"] == "abc"


@pytest.mark.parametrize(("wish", "header"), [(None, "1"), (0.2, "1"), (4.1, "5"), (60, "60")])
def test_retry_after_is_whole_seconds_rounded_up(wish, header):
    error = TryAgainError("x", reason="queue_full", retry_after_seconds=wish)
    assert problems.from_error(error).headers["Retry-After"] == header


def test_faults_fix_and_headers_are_carried():
    error = ProblemError("m", reason="validation_failed", fix="f", faults=[Fault("#/a", "bad")], headers={"X-A": "b"})
    response = problems.from_error(error, instance="/v1/jobs", trace_id="t")
    document = body(response)
    assert document["errors"] == [{"pointer": "#/a", "detail": "bad"}]
    assert (document["fix"], document["instance"], document["trace_id"]) == ("f", "/v1/jobs", "t")
    assert response.headers["X-A"] == "b"
