"""REST objects: documented shapes, and what may be missing from them."""

from __future__ import annotations

import json

import pytest

from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.rest.answers import (
    parse_branch,
    parse_deliveries,
    parse_job,
    parse_jobs,
    parse_rate_limits,
    parse_rest_jit_config,
    parse_run,
)
from orchestrator.intake.github.rest.client import next_cursor

REPOSITORY = {"id": 101, "full_name": "acme/shop", "owner": {"login": "acme", "id": 7}, "private": True, "fork": False}
RUN = {
    "id": 9001,
    "run_attempt": 2,
    "run_number": 12,
    "name": "deploy",
    "event": "push",
    "status": "in_progress",
    "conclusion": None,
    "head_branch": "main",
    "head_sha": "9f1c",
    "path": ".github/workflows/deploy.yml",
    "workflow_id": 3,
    "repository": REPOSITORY,
    "head_repository": REPOSITORY | {"id": 202, "full_name": "kim/shop", "fork": True},
    "actor": {"login": "kim", "id": 55},
    "triggering_actor": {"login": "lee", "id": 56},
    "referenced_workflows": [{"path": "acme/ci/.github/workflows/r.yml@v3", "sha": "77aa", "ref": "refs/tags/v3"}],
    "created_at": "2026-01-01T10:00:00Z",
}
JOB = {
    "id": 31338,
    "run_id": 9001,
    "run_attempt": 2,
    "check_run_url": "https://api.github.com/repos/acme/shop/check-runs/31337",
    "name": "build",
    "status": "queued",
    "conclusion": None,
    "head_sha": "9f1c",
    "labels": ["zt"],
    "runner_id": None,
    "runner_name": "",
    "created_at": "2026-01-01T10:00:00Z",
    "started_at": None,
}


def test_a_run():
    run = parse_run(json.dumps(RUN).encode())
    assert (run.id, run.attempt, run.conclusion, run.actor_id, run.triggering_actor) == (9001, 2, "", 55, "lee")
    assert (run.repository.id, run.repository.owner_id, run.head_repository.fork) == (101, 7, True)
    assert run.referenced_workflows[0].ref == "refs/tags/v3"


def test_a_run_whose_fork_was_deleted():
    assert parse_run(json.dumps(RUN | {"head_repository": None, "actor": None}).encode()).head_repository is None


@pytest.mark.parametrize("name", ["id", "repository"])
def test_a_run_without_what_counts(name):
    with pytest.raises(UnreadableAnswerError):
        parse_run(json.dumps({key: value for key, value in RUN.items() if key != name}).encode())


def test_a_job():
    job = parse_job(json.dumps(JOB).encode())
    assert (job.id, job.check_run_id, job.run_attempt, job.status, job.runner_id) == (31338, 31337, 2, "queued", 0)
    assert parse_jobs(json.dumps({"total_count": 1, "jobs": [JOB]}).encode()) == [job]
    assert parse_job(json.dumps(JOB | {"check_run_url": None}).encode()).check_run_id == 0
    assert parse_job(json.dumps(JOB | {"check_run_url": "https://x/check-runs/1/x"}).encode()).check_run_id == 0


def test_a_branch_says_whether_it_is_protected_or_is_none():
    branch = parse_branch(b'{"name":"main","protected":true,"commit":{"sha":"9f1c"}}')
    assert (branch.name, branch.protected, branch.sha) == ("main", True, "9f1c")
    for body in (b'{"name":"main"}', b'{"name":"main","protected":"yes"}'):
        with pytest.raises(UnreadableAnswerError):
            parse_branch(body)


def test_jit_configuration_of_the_public_api():
    made = parse_rest_jit_config(b'{"runner":{"id":7,"name":"r","status":"offline"},"encoded_jit_config":"c2VjcmV0"}')
    assert (made.runner_id, made.name, made.encoded) == (7, "r", "c2VjcmV0")
    with pytest.raises(UnreadableAnswerError):
        parse_rest_jit_config(b'{"encoded_jit_config":"c2VjcmV0"}')


def test_deliveries_and_their_next_page():
    good = {"id": 42, "guid": "5847", "event": "workflow_job", "action": "queued", "status": "OK", "status_code": 202}
    bad = good | {"id": 41, "action": None, "status": "failed to connect", "status_code": 502, "redelivery": True}
    first, second = parse_deliveries(json.dumps([good, bad]).encode())
    assert (first.ok, first.id, second.ok, second.action) == (True, 42, False, "")
    with pytest.raises(UnreadableAnswerError):
        parse_deliveries(b"{}")


@pytest.mark.parametrize(
    ("link", "cursor"),
    [
        ('<https://api/x?per_page=100&cursor=v1_9>; rel="next"', "v1_9"),
        ('<https://api/x?cursor=a>; rel="prev", <https://api/x?cursor=b>; rel="next"', "b"),
        ('<https://api/x?cursor=a>; rel="prev"', ""),
        ('<https://api/x?page=2>; rel="next"', ""),
        ("<<<", ""),
        ("", ""),
    ],
)
def test_cursors(link, cursor):
    assert next_cursor(link) == cursor


def test_rate_limits():
    body = {"resources": {"core": {"limit": 5000, "remaining": 9, "reset": 1767225700}, "odd": 3}}
    (core,) = parse_rate_limits(json.dumps(body).encode())
    assert (core.resource, core.limit, core.remaining) == ("core", 5000, 9)
