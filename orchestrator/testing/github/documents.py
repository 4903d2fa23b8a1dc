"""Runs, jobs, repositories and runners as the REST API and the webhooks write them."""

from __future__ import annotations

from typing import Any

from orchestrator.testing.github.clock import rest_time
from orchestrator.testing.github.model import Job, JobState, Owner, Repository, Run, Runner
from orchestrator.testing.github.runner_job import ref_of

_REST_STATUS = {JobState.WAITING: "waiting", JobState.RUNNING: "in_progress", JobState.COMPLETED: "completed"}


def status_of(job: Job) -> str:
    """`queued`, `waiting`, `in_progress` or `completed`: REST does not tell the states of a scale set apart."""
    return _REST_STATUS.get(job.state, "queued")


def run_status(run: Run) -> str:
    """`waiting` while nothing else goes on, `queued` before the first job has begun."""
    states = {status_of(job) for job in run.jobs}
    if states <= {"completed"}:
        return "completed"
    if "in_progress" in states or "completed" in states:
        return "in_progress"
    return "queued" if "queued" in states else "waiting"


def run_conclusion(run: Run) -> str | None:
    if not run.done:
        return None
    found = {job.conclusion for job in run.jobs}
    return next((one for one in ("failure", "cancelled", "timed_out") if one in found), "success")


def owner_document(owner: Owner) -> dict[str, Any]:
    return {"login": owner.login, "id": owner.id, "type": owner.kind}


def actor_document(run: Run) -> dict[str, Any]:
    return {"login": run.actor, "id": run.actor_id, "type": "User"}


def repository_document(repository: Repository, url: str) -> dict[str, Any]:
    return {
        "id": repository.id,
        "name": repository.name,
        "full_name": repository.full_name,
        "owner": owner_document(repository.owner),
        "private": repository.visibility != "public",
        "visibility": repository.visibility,
        "fork": repository.fork,
        "default_branch": repository.default_branch,
        "html_url": f"{url}/{repository.full_name}",
        "url": f"{url}/api/v3/repos/{repository.full_name}",
    }


def run_document(run: Run, url: str, attempt: int = 0) -> dict[str, Any]:
    """`attempt` is the latest when 0."""
    base = f"{url}/api/v3/repos/{run.repository.full_name}/actions/runs/{run.id}"
    return {
        "id": run.id,
        "name": run.workflow,
        "display_title": run.workflow,
        "run_number": run.number,
        "run_attempt": attempt or run.attempt,
        "event": run.event,
        "status": run_status(run),
        "conclusion": run_conclusion(run),
        "head_branch": run.head_ref or ref_of(run)[1],
        "head_sha": run.sha,
        "path": run.path if ref_of(run)[0] == "branch" and not run.head_ref else f"{run.path}@{run.ref}",
        "workflow_id": run.repository.id + 1,
        "actor": actor_document(run),
        "triggering_actor": actor_document(run),
        "pull_requests": [],
        "referenced_workflows": [
            {"path": ref, "sha": run.sha, "ref": ref.rpartition("@")[2]}
            for ref in dict.fromkeys(job.plan.job_workflow_ref for job in run.jobs if job.plan.job_workflow_ref)
        ],
        "created_at": rest_time(run.created_at),
        "updated_at": rest_time(run.updated_at),
        "run_started_at": rest_time(run.jobs[0].created_at if run.jobs else run.created_at),
        "url": base,
        "html_url": f"{url}/{run.repository.full_name}/actions/runs/{run.id}",
        "jobs_url": f"{base}/jobs",
        "repository": repository_document(run.repository, url),
        "head_repository": repository_document(run.head_repository, url),
    }


def job_document(job: Job, url: str) -> dict[str, Any]:
    """As in `GET …/jobs` and in `workflow_job`."""
    run = job.run
    base = f"{url}/api/v3/repos/{run.repository.full_name}"
    at_runner = job.runner_id != 0
    return {
        "id": job.id,
        "run_id": run.id,
        "run_attempt": job.attempt,
        "run_url": f"{base}/actions/runs/{run.id}",
        "node_id": f"CR_{job.id}",
        "workflow_name": run.workflow,
        "head_branch": run.head_ref or ref_of(run)[1],
        "head_sha": run.sha,
        "name": job.plan.name,
        "status": status_of(job),
        "conclusion": job.conclusion,
        "created_at": rest_time(job.created_at),
        "started_at": rest_time(job.started_at or job.created_at),
        "completed_at": rest_time(job.completed_at),
        "labels": list(job.plan.labels),
        "steps": job.steps,
        "runner_id": job.runner_id if at_runner else None,
        "runner_name": job.runner_name if at_runner else None,
        "runner_group_id": 1 if at_runner else None,
        "runner_group_name": "Default" if at_runner else None,
        "url": f"{base}/actions/jobs/{job.id}",
        "html_url": f"{url}/{run.repository.full_name}/actions/runs/{run.id}/job/{job.id}",
        "check_run_url": f"{base}/check-runs/{job.check_run_id}",
    }


def runner_document(runner: Runner) -> dict[str, Any]:
    kinds = {"self-hosted": "read-only"}
    return {
        "id": runner.id,
        "name": runner.name,
        "os": "linux" if runner.online or runner.busy else "unknown",
        "status": "online" if runner.online else "offline",
        "busy": runner.busy,
        "ephemeral": True,
        "runner_group_id": runner.group_id,
        "labels": [
            {"id": number, "name": label, "type": kinds.get(label, "custom")}
            for number, label in enumerate(runner.labels, 1)
        ],
    }
