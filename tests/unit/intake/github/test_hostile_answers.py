"""Whatever an answer holds, reading it gives an object or the one error that says it cannot be read."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from orchestrator.errors import OrchestratorError
from orchestrator.intake.github.answers import Answer, error_of
from orchestrator.intake.github.commits import answers as commit_answers
from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.rest import answers as rest_answers
from orchestrator.intake.github.scale_sets import protocol, service_answers

PARSERS = sorted(
    {
        parser
        for room in (service_answers, rest_answers, commit_answers)
        for name, parser in vars(room).items()
        if name[:6] == "parse_"
    },
    key=lambda parser: parser.__name__,
)
NAMES = st.sampled_from(
    (
        *("id", "value", "name", "runner", "body", "messageId", "messageType", "statistics", "labels", "jobs", "owner"),
        *("workflow_runs", "repository", "actor", "protected", "commit", "resources", "runners", "full_name", "status"),
        *("sha", "author", "committer", "verification", "base", "head", "repo", "number", "merged_at", "user", "state"),
        *("ahead_by", "permission", "default_branch"),
        *("encodedJITConfig", "encoded_jit_config", "sessionId", "runnerScaleSetId", "run_id", "created_at", "busy"),
    )
)
HEADERS = ("Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Limit", "ActivityId")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 70) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parser: parser.__name__)
def test_answers_of_success(parse):
    @given(JSON.map(json.dumps).map(str.encode) | st.binary(max_size=40))
    def check(body):
        with contextlib.suppress(UnreadableAnswerError):
            parse(body)

    check()


@given(
    st.integers(100, 599).filter(lambda status: not 200 <= status < 300),
    st.dictionaries(st.sampled_from(["typeName", "message", "documentation_url"]), JSON).map(json.dumps).map(str.encode)
    | st.binary(max_size=40),
    st.dictionaries(
        st.sampled_from(
            ["Retry-After", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Limit", "ActivityId"]
        ),
        st.text(max_size=30) | st.integers().map(str),
    ),
)
def test_answers_of_failure(status, body, headers):
    error = error_of(protocol.get_scale_set("https://service/", 5), Answer(status, CIMultiDict(headers), body), 1.8e9)
    assert isinstance(error, OrchestratorError)
    assert str(error).isprintable()
    assert len(str(error)) < 700
    wait = getattr(error, "retry_after_seconds", None)
    assert wait is None or 0 <= wait <= 3600


def test_there_are_parsers():
    assert len(PARSERS) > 22
