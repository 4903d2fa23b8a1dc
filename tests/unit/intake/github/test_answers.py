"""Which error an answer is: by status, by its type's name and by headers, never by words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from multidict import CIMultiDict

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.intake.github import errors
from orchestrator.intake.github.answers import Answer, clean, error_of, rate_limit_of, request_id
from orchestrator.intake.github.scale_sets import protocol

NOW = 1_767_225_600.0
GET_SET = protocol.get_scale_set("https://service/", 5)
CREATE_SESSION = protocol.create_session("https://service/", 5, "me")
REFRESH = protocol.refresh_session("https://service/", 5, "s")
POLL = protocol.poll("https://queue/", 0, 1)
JIT = protocol.generate_jit("https://service/", 5, "r", "")
REMOVE = protocol.remove_runner("https://service/", 5)


def answer(status, body=b"", **headers):
    whole = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, CIMultiDict(whole), body if isinstance(body, bytes) else json.dumps(body).encode())


def typed(status, name):
    return answer(status, {"typeName": f"GitHub.Actions.X.{name}, GitHub.Actions.X", "message": "why"})


@pytest.mark.parametrize(
    ("request_", "given", "expected"),
    [
        (CREATE_SESSION, typed(409, "RunnerScaleSetSessionConflictException"), errors.SessionConflictError),
        (CREATE_SESSION, answer(409), errors.SessionConflictError),
        (CREATE_SESSION, answer(404), errors.ScaleSetGoneError),
        (REFRESH, typed(404, "RunnerAdminException"), errors.SessionGoneError),
        (POLL, typed(400, "RunnerScaleSetSessionExpiredException"), errors.SessionGoneError),
        (POLL, answer(400, b"expired"), errors.SessionGoneError),
        (POLL, typed(404, "RunnerScaleSetNotFoundException"), errors.ScaleSetGoneError),
        (GET_SET, answer(404), errors.ScaleSetGoneError),
        (JIT, typed(409, "AgentExistsException"), errors.RunnerExistsError),
        (JIT, answer(409), errors.RunnerExistsError),
        (REMOVE, typed(400, "JobStillRunningException"), errors.BusyError),
        (REMOVE, typed(404, "AgentNotFoundException"), errors.NotFoundError),
        (GET_SET, answer(401), errors.UnauthorizedError),
        (GET_SET, answer(403), errors.ForbiddenError),
        (GET_SET, answer(403, Retry_After="5"), errors.RateLimitedError),
        (GET_SET, answer(403, X_RateLimit_Remaining="0"), errors.RateLimitedError),
        (GET_SET, answer(403, {"documentation_url": "https://docs/x#secondary-rate-limits"}), errors.RateLimitedError),
        (GET_SET, answer(403, {"message": "secondary rate limit"}), errors.ForbiddenError),
        (GET_SET, answer(429), errors.RateLimitedError),
        (GET_SET, answer(400), errors.RefusedError),
        (GET_SET, answer(422), errors.RefusedError),
        (GET_SET, answer(302), errors.RefusedError),
        (GET_SET, answer(501), errors.RefusedError),
        (GET_SET, answer(408), errors.UnavailableError),
        (GET_SET, answer(500, b"\xef\xbb\xbf"), errors.UnavailableError),
        (GET_SET, answer(502, b"<html>"), errors.UnavailableError),
        (JIT, typed(503, "AgentExistsException"), errors.UnavailableError),
    ],
)
def test_kinds(request_, given, expected):
    error = error_of(request_, given, NOW)
    assert type(error) is expected
    assert error.call.status == given.status
    assert f"{request_.method} {request_.endpoint} answered {given.status}" in str(error)


def test_every_error_is_of_one_family_and_has_a_reason_of_its_own():
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GitHubError)]
    found.remove(errors.GitHubError)
    assert all(issubclass(kind, TryAgainError) != issubclass(kind, GiveUpError) for kind in found)
    assert len({kind.reason for kind in found}) == len(found) > 10
    assert all(kind.reason.startswith("github_") for kind in found)
    page = (Path(__file__).parents[4] / "docs" / "reference" / "reasons.md").read_text("utf-8")
    assert [kind.reason for kind in found if f"| `{kind.reason}` |" not in page] == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7", "X_RateLimit_Remaining": "0", "X_RateLimit_Limit": "1", "X_RateLimit_Reset": "0"}, 7),
        ({"Retry_After": "999999"}, 3600),
        ({"Retry_After": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30),
        ({"Retry_After": "Wed, 31 Dec 2025 00:00:30 GMT"}, 0),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Limit": "1", "X_RateLimit_Reset": str(int(NOW) + 120)}, 120),
        ({"X_RateLimit_Remaining": "0", "X_RateLimit_Limit": "1", "X_RateLimit_Reset": "1"}, 1),
        ({"Retry_After": "soon"}, None),
        ({"Retry_After": "-3"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers, seconds):
    assert error_of(GET_SET, answer(429, **headers), NOW).retry_after_seconds == seconds


def test_a_server_in_trouble_may_name_a_time_too():
    assert error_of(GET_SET, answer(503, Retry_After="4"), NOW).retry_after_seconds == 4


def test_request_ids_are_kept_and_harmless():
    error = error_of(GET_SET, answer(500, ActivityId="a1b2-c3"), NOW)
    assert error.call.request_id == "a1b2-c3"
    assert "[a1b2-c3]" in str(error)
    assert request_id(CIMultiDict({"x-github-request-id": "AB:12\x1b[31m" + "x" * 500})).startswith("AB:1231m")
    assert len(request_id(CIMultiDict({"activityid": "x" * 500}))) == 128


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxIn0.c2lnbmF0dXJl",
        "ghs_0123456789abcdefABCDEF",
        "github_pat_0123456789_abcdef",
        "RemoteAuth AABF3JGZDX3P5PMEXLND6TS6FCWO6",
        "OPAQUE-TOKEN-THAT-WAS-SENT",
    ],
)
def test_no_token_is_repeated(secret):
    told = answer(401, {"message": f"not good: {secret} at all"})
    error = error_of(GET_SET, told, NOW, "OPAQUE-TOKEN-THAT-WAS-SENT")
    assert secret.split()[-1] not in error.diagnostics()
    assert "not good: (hidden)" in str(error)


def test_messages_are_one_short_line():
    assert clean("a\nb\x1b[0m\u202ec" + "x" * 5000).startswith("a b [0m cxxx")
    assert len(clean("x" * 5000)) == 300


def test_rate_limits_are_read_or_left():
    full = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "17", "X-RateLimit-Reset": "1767225700"}
    found = rate_limit_of(CIMultiDict(full | {"X-RateLimit-Resource": "actions_runner_registration"}))
    assert (found.resource, found.limit, found.remaining, found.resets_at) == (
        "actions_runner_registration",
        5000,
        17,
        1767225700,
    )
    assert rate_limit_of(CIMultiDict(full)).resource == "core"
    assert rate_limit_of(CIMultiDict(full | {"X-RateLimit-Reset": "soon"})) is None
    assert rate_limit_of(CIMultiDict({})) is None
