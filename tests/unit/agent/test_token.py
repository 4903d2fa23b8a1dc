"""What `orchestrator-token` tells the job when it gets no token."""

from __future__ import annotations

import json

import pytest

from orchestrator.agent.tokens import runner_api


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"error": "invalid_target", "error_description": "refused; reference 7", "reason": "policy_deny",
             "explanation": "this audience is only for prod [a]"},
            "invalid_target: policy_deny: this audience is only for prod [a]: refused; reference 7",
        ),
        ({"title": "Gone", "reason": "job_ended", "detail": "the job has ended"}, "job_ended: the job has ended"),
        ({"title": "Gone"}, "Gone"),
        ([], "refused"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_rule_and_the_reference(body, said):
    assert runner_api.refusal(json.dumps(body).encode()) == said
