"""What GitHub's REST API says of runs, jobs, branches, runners and deliveries, as frozen objects. Pure.

`rest_answers` reads them.

Source: GitHub REST API reference (workflow runs, workflow jobs, branches, self-hosted runners, webhook deliveries).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as a run names it. `visibility` is empty where GitHub tells none (older GHES)."""

    id: int
    full_name: str
    owner: str
    owner_id: int
    private: bool = False
    fork: bool = False
    visibility: str = ""


@dataclass(frozen=True, slots=True)
class WorkflowRun:
    """A run, as it is now: `attempt` is the latest one.

    `head_branch` is the branch or tag name without `refs/…`; `path` the workflow's file, on some events with `@ref`.
    `head_repository` is None when the fork that it came from was deleted. `actor` caused the first attempt and
    `triggering_actor` the present one.
    """

    id: int
    attempt: int
    number: int
    name: str
    event: str
    status: str
    conclusion: str
    head_branch: str
    head_sha: str
    path: str
    workflow_id: int
    repository: Repository
    head_repository: Repository | None
    actor: str
    actor_id: int
    triggering_actor: str
    triggering_actor_id: int
    referenced_workflows: tuple[ReferencedWorkflow, ...] = ()
    created_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ReferencedWorkflow:
    """A reusable workflow that the run calls; which job calls it is not told."""

    path: str
    sha: str
    ref: str


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job of one attempt of a run.

    `status` is queued, waiting, in_progress, completed, …; `conclusion` is empty until it is completed. `check_run_id`
    is what the OIDC claim of this name says; 0 where GitHub gives no check run. Runner fields are empty while queued.
    """

    id: int
    run_id: int
    run_attempt: int
    check_run_id: int
    name: str
    workflow_name: str
    status: str
    conclusion: str
    head_sha: str
    head_branch: str
    labels: tuple[str, ...] = ()
    runner_id: int = 0
    runner_name: str = ""
    runner_group_name: str = ""
    created_at_ns: int | None = None
    started_at_ns: int | None = None
    completed_at_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    name: str
    protected: bool
    sha: str = ""


@dataclass(frozen=True, slots=True)
class HookDelivery:
    """One try to deliver a webhook. `guid` is the same for all tries of one event; `ok` is GitHub's own verdict."""

    id: int
    guid: str
    event: str
    action: str
    status: str
    status_code: int
    redelivery: bool
    delivered_at_ns: int | None = None

    @property
    def ok(self) -> bool:
        return self.status == "OK"


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Newest first. `cursor` names the next page, and is empty on the last."""

    deliveries: tuple[HookDelivery, ...]
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One bucket of requests: `resets_at` is Unix seconds by GitHub's clock."""

    resource: str
    limit: int
    remaining: int
    resets_at: int
