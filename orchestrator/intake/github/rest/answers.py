"""Reading the answers of GitHub's REST API. Pure. Unknown fields are ignored, sizes are bounded."""

from __future__ import annotations

import re
from typing import Final

from orchestrator.intake.github.errors import UnreadableAnswerError
from orchestrator.intake.github.fields import Fields, read_json, read_object
from orchestrator.intake.github.rest.objects import (
    Branch,
    HookDelivery,
    RateLimit,
    ReferencedWorkflow,
    Repository,
    RunJob,
    WorkflowRun,
)
from orchestrator.intake.github.scale_sets.messages import JitConfig, RunnerEntry
from orchestrator.intake.github.scale_sets.service_answers import MAX_JIT_CONFIG

_CHECK_RUN: Final = re.compile(r".*/check-runs/(\d{1,19})", re.ASCII)


def parse_run(body: bytes) -> WorkflowRun:
    """Raises: UnreadableAnswerError."""
    return _run(read_object(body))


def parse_runs(body: bytes) -> list[WorkflowRun]:
    """Raises: UnreadableAnswerError."""
    return [_run(item) for item in read_object(body).objects("workflow_runs")]


def parse_jobs(body: bytes) -> list[RunJob]:
    """Raises: UnreadableAnswerError."""
    return [_job(item) for item in read_object(body).objects("jobs")]


def parse_job(body: bytes) -> RunJob:
    """Raises: UnreadableAnswerError."""
    return _job(read_object(body))


def parse_branch(body: bytes) -> Branch:
    """Raises: UnreadableAnswerError."""
    data = read_object(body)
    commit = data.object("commit")
    if "protected" not in data:
        raise UnreadableAnswerError("the answer does not say whether the branch is protected")
    return Branch(data.text("name"), data.flag("protected"), commit.text("sha") if commit else "")


def parse_rest_runners(body: bytes) -> list[RunnerEntry]:
    """Raises: UnreadableAnswerError."""
    return [_runner(item) for item in read_object(body).objects("runners")]


def parse_rest_jit_config(body: bytes) -> JitConfig:
    """Raises: UnreadableAnswerError, without any part of the configuration."""
    data = read_object(body)
    encoded = data.text("encoded_jit_config", MAX_JIT_CONFIG)
    data.need("encoded_jit_config", encoded)
    runner = data.object("runner")
    made = _runner(runner) if runner else None
    data.need("runner", made)
    assert made is not None
    return JitConfig(made.id, made.name, encoded)


def parse_deliveries(body: bytes) -> tuple[HookDelivery, ...]:
    """Raises: UnreadableAnswerError."""
    items = read_json(body)
    if not isinstance(items, list):
        raise UnreadableAnswerError("the answer is no JSON list")
    return tuple(_delivery(Fields(item, "delivery")) for item in items)


def parse_rate_limits(body: bytes) -> list[RateLimit]:
    """Buckets of `GET /rate_limit`. Raises: UnreadableAnswerError."""
    resources = read_object(body).object("resources")
    if resources is None:
        raise UnreadableAnswerError("the answer has no resources")
    return [
        RateLimit(name, bucket.number("limit"), bucket.number("remaining"), bucket.number("reset"))
        for name, bucket in resources.each_object()
    ]


def _run(data: Fields) -> WorkflowRun:
    repository = data.object("repository")
    head = data.object("head_repository")
    actor, trigger = data.object("actor"), data.object("triggering_actor")
    data.need("id", data.number("id") > 0)
    data.need("repository", repository)
    assert repository is not None
    return WorkflowRun(
        id=data.number("id"),
        attempt=data.number("run_attempt"),
        number=data.number("run_number"),
        name=data.shown("name"),
        event=data.text("event"),
        status=data.text("status"),
        conclusion=data.text("conclusion"),
        head_branch=data.text("head_branch"),
        head_sha=data.text("head_sha"),
        path=data.text("path"),
        workflow_id=data.number("workflow_id"),
        repository=_repository(repository),
        head_repository=_repository(head) if head else None,
        actor=actor.text("login") if actor else "",
        actor_id=actor.number("id") if actor else 0,
        triggering_actor=trigger.text("login") if trigger else "",
        triggering_actor_id=trigger.number("id") if trigger else 0,
        referenced_workflows=tuple(
            ReferencedWorkflow(item.text("path"), item.text("sha"), item.text("ref"))
            for item in data.objects("referenced_workflows")
        ),
        created_at_ns=data.time_ns("created_at"),
    )


def _repository(data: Fields) -> Repository:
    owner = data.object("owner")
    found = Repository(
        id=data.number("id"),
        full_name=data.text("full_name"),
        owner=owner.text("login") if owner else "",
        owner_id=owner.number("id") if owner else 0,
        private=data.flag("private"),
        fork=data.flag("fork"),
        visibility=data.text("visibility", 64),
    )
    data.need("id", found.id > 0)
    data.need("full_name", found.full_name)
    return found


def _job(data: Fields) -> RunJob:
    check = _CHECK_RUN.fullmatch(data.text("check_run_url"))
    found = RunJob(
        id=data.number("id"),
        run_id=data.number("run_id"),
        run_attempt=data.number("run_attempt"),
        check_run_id=int(check[1]) if check else 0,
        name=data.shown("name"),
        workflow_name=data.shown("workflow_name"),
        status=data.text("status", 64),
        conclusion=data.text("conclusion", 64),
        head_sha=data.text("head_sha"),
        head_branch=data.text("head_branch"),
        labels=data.texts("labels"),
        runner_id=data.number("runner_id"),
        runner_name=data.text("runner_name"),
        runner_group_name=data.text("runner_group_name"),
        created_at_ns=data.time_ns("created_at"),
        started_at_ns=data.time_ns("started_at"),
        completed_at_ns=data.time_ns("completed_at"),
    )
    data.need("id", found.id > 0)
    data.need("run_id", found.run_id > 0)
    return found


def _runner(data: Fields) -> RunnerEntry:
    found = RunnerEntry(
        id=data.number("id"),
        name=data.text("name"),
        status=data.shown("status").lower(),
        busy=data.flag("busy"),
        labels=data.texts("labels"),
    )
    data.need("id", found.id > 0)
    return found


def _delivery(data: Fields) -> HookDelivery:
    return HookDelivery(
        id=data.number("id"),
        guid=data.text("guid", 128),
        event=data.text("event", 128),
        action=data.text("action", 128),
        status=data.shown("status"),
        status_code=data.number("status_code"),
        redelivery=data.flag("redelivery"),
        delivered_at_ns=data.time_ns("delivered_at"),
    )
