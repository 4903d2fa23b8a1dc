"""What the API server's refusals mean: by status and word, and never fewer families than two."""

from __future__ import annotations

import json

import pytest

from orchestrator.backends.kubernetes.answers import (
    ConflictError,
    GoneError,
    NotFoundError,
    UnauthorizedError,
    error_of,
)  # fmt: skip
from orchestrator.errors import GiveUpError, TryAgainError


def status(code: int, reason: str = "", message: str = "", **details) -> bytes:
    said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    return json.dumps({**said, "message": message, "details": details}).encode()


QUOTA = 'pods "runner-1" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=4, limited: pods=4'
NEW_QUOTA = 'pods "runner-1" is forbidden: status unknown for quota: pods, resources: pods'


@pytest.mark.parametrize(
    ("method", "code", "word", "message", "family", "reason"),
    [
        ("POST", 403, "Forbidden", QUOTA, TryAgainError, "quota_exhausted"),
        ("POST", 403, "Forbidden", NEW_QUOTA, TryAgainError, "quota_exhausted"),
        ("POST", 403, "Forbidden", "no: " + QUOTA, GiveUpError, "create_refused"),
        ("POST", 403, "Forbidden", QUOTA.replace("exceeded", "failed"), GiveUpError, "create_refused"),
        ("POST", 422, "Invalid", QUOTA, GiveUpError, "create_refused"),
        ("POST", 400, "BadRequest", "", GiveUpError, "create_refused"),
        ("POST", 404, "NotFound", 'namespaces "x" not found', GiveUpError, "create_refused"),
        ("GET", 403, "Forbidden", QUOTA, GiveUpError, "api_forbidden"),
        ("GET", 404, "NotFound", "", NotFoundError, "api_not_found"),
        ("DELETE", 404, "NotFound", "", NotFoundError, "api_not_found"),
        ("POST", 409, "AlreadyExists", "", ConflictError, "api_conflict"),
        ("GET", 410, "Expired", "", GoneError, "api_gone"),
        ("GET", 401, "Unauthorized", "", UnauthorizedError, "api_unauthorized"),
        ("POST", 429, "TooManyRequests", "", TryAgainError, "api_busy"),
        ("POST", 500, "InternalError", "", TryAgainError, "api_unavailable"),
        ("POST", 503, "", "", TryAgainError, "api_unavailable"),
        ("POST", 408, "", "", TryAgainError, "api_unavailable"),
        ("GET", 418, "", "", GiveUpError, "api_refused"),
        ("GET", 301, "", "", TryAgainError, "api_unavailable"),
    ],
)
def test_each_answer_has_its_family_and_reason(method, code, word, message, family, reason):
    error = error_of(method, code, status(code, word, message))
    assert isinstance(error, family)
    assert error.reason == reason


def test_the_words_of_a_conflict_are_kept_for_the_caller():
    error = error_of("POST", 409, status(409, "AlreadyExists"))
    assert isinstance(error, ConflictError)
    assert error.word == "AlreadyExists"


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [({"Retry-After": "7"}, 0, 7), ({}, 3, 3), ({"Retry-After": "99999"}, 0, 300), ({"Retry-After": "soon"}, 0, None)],
)
def test_a_wish_to_wait_is_bounded(headers, details, seconds):
    error = error_of("POST", 429, status(429, retryAfterSeconds=details), headers)
    assert isinstance(error, TryAgainError)
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"message": 3}', b"\xff"])
def test_an_answer_that_is_no_status_is_judged_by_its_number(body):
    assert error_of("GET", 500, body).reason == "api_unavailable"
    assert error_of("POST", 403, body).reason == "create_refused"


def test_a_long_message_is_cut():
    assert len(str(error_of("GET", 500, status(500, "", "x" * 9999)))) == 500
