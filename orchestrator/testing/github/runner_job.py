"""What a job looks like to the runner program: environment, event and steps."""

from __future__ import annotations

from typing import Any

from orchestrator.testing.github.model import Job, Run, Step


def job_message(job: Job, url: str) -> dict[str, Any]:
    """Everything the program needs, in one message."""
    return {
        "messageType": "RunnerJobRequest",
        "jobId": job.key,
        "displayName": job.plan.name,
        "variables": job_variables(job, url),
        "event": event_of(job.run),
        "steps": [_step(step) for step in job.plan.steps],
    }


def job_variables(job: Job, url: str) -> dict[str, str]:
    """The `GITHUB_`, `RUNNER_` and `ACTIONS_` variables that do not depend on the runner's folders."""
    run, repository = job.run, job.run.repository
    kind, name = ref_of(run)
    variables = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_ACTOR": run.actor,
        "GITHUB_ACTOR_ID": str(run.actor_id),
        "GITHUB_API_URL": f"{url}/api/v3",
        "GITHUB_BASE_REF": run.base_ref,
        "GITHUB_EVENT_NAME": run.event,
        "GITHUB_GRAPHQL_URL": f"{url}/api/graphql",
        "GITHUB_HEAD_REF": run.head_ref,
        "GITHUB_JOB": job.plan.name,
        "GITHUB_REF": run.ref,
        "GITHUB_REF_NAME": name,
        "GITHUB_REF_PROTECTED": str(is_protected(run)).lower(),
        "GITHUB_REF_TYPE": kind,
        "GITHUB_REPOSITORY": repository.full_name,
        "GITHUB_REPOSITORY_ID": str(repository.id),
        "GITHUB_REPOSITORY_OWNER": repository.owner.login,
        "GITHUB_REPOSITORY_OWNER_ID": str(repository.owner.id),
        "GITHUB_RETENTION_DAYS": "90",
        "GITHUB_RUN_ATTEMPT": str(job.attempt),
        "GITHUB_RUN_ID": str(run.id),
        "GITHUB_RUN_NUMBER": str(run.number),
        "GITHUB_SERVER_URL": url,
        "GITHUB_SHA": run.sha,
        "GITHUB_TRIGGERING_ACTOR": run.actor,
        "GITHUB_WORKFLOW": run.workflow,
        "GITHUB_WORKFLOW_REF": run.workflow_ref,
        "GITHUB_WORKFLOW_SHA": run.sha,
        "RUNNER_ENVIRONMENT": "self-hosted",
        "RUNNER_NAME": job.runner_name,
        "RUNNER_OS": "Linux",
    }
    if job.plan.id_token:
        variables["ACTIONS_ID_TOKEN_REQUEST_URL"] = f"{url}/_broker/idtoken/{job.key}?api-version=2.0"
        variables["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = job.token
    return variables | dict(job.plan.variables)


def event_of(run: Run) -> dict[str, Any]:
    """The event's payload, as far as anybody here reads it: enough to see a fork."""
    event: dict[str, Any] = {
        "repository": {"id": run.repository.id, "full_name": run.repository.full_name, "fork": run.repository.fork},
        "sender": {"login": run.actor, "id": run.actor_id},
    }
    if run.event.startswith("pull_request"):
        head = {"full_name": run.head_repository.full_name, "fork": run.is_fork}
        event["pull_request"] = {"head": {"ref": run.head_ref, "sha": run.sha, "repo": head}}
    return event | dict(run.payload)


def ref_of(run: Run) -> tuple[str, str]:
    """`branch` or `tag`, and the short name; a pull request's is a branch to GitHub."""
    for prefix, kind in (("refs/heads/", "branch"), ("refs/tags/", "tag"), ("refs/", "branch")):
        if run.ref.startswith(prefix):
            return kind, run.ref.removeprefix(prefix)
    return "branch", run.ref


def is_protected(run: Run) -> bool:
    return run.ref.startswith("refs/heads/") and run.repository.branches.get(ref_of(run)[1], False)


def _step(step: Step | str) -> dict[str, Any]:
    one = Step(step) if isinstance(step, str) else step
    name = one.name or "Run " + one.run.strip().partition("\n")[0][:60]
    return {"name": name, "run": one.run, "condition": one.condition, "environment": dict(one.environment)}
