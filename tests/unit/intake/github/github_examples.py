"""One job at GitHub as its token, its run and its API entry tell it."""

from __future__ import annotations

from orchestrator.intake.github.facts import ResolvedRef
from orchestrator.intake.github.rest.objects import Branch, Repository, RunJob, WorkflowRun
from orchestrator.intake.github.urls import parse_github_url

URL = parse_github_url("https://github.com/acme")
ISSUER = URL.oidc_issuer
SHOP = Repository(id=101, full_name="acme/shop", owner="acme", owner_id=7, private=True, visibility="private")
FORK = Repository(id=102, full_name="mallory/shop", owner="mallory", owner_id=8, fork=True)
CI = ".github/workflows/ci.yml"
RUN = WorkflowRun(
    id=9001,
    attempt=1,
    number=12,
    name="ci",
    event="push",
    status="queued",
    conclusion="",
    head_branch="main",
    head_sha="9f1c",
    path=CI,
    workflow_id=3,
    repository=SHOP,
    head_repository=SHOP,
    actor="kim",
    actor_id=55,
    triggering_actor="lee",
    triggering_actor_id=56,
)
JOB = RunJob(
    id=31337,
    run_id=9001,
    run_attempt=2,
    check_run_id=31337,
    name="test (3.13)",
    workflow_name="ci",
    status="in_progress",
    conclusion="",
    head_sha="9f1c",
    head_branch="main",
)
MAIN = ResolvedRef("refs/heads/main", protected=True)
MAIN_REF = f"acme/shop/{CI}@refs/heads/main"
CLAIMS = {
    "repository": "acme/shop",
    "repository_id": "101",
    "repository_owner": "acme",
    "repository_owner_id": "7",
    "repository_visibility": "private",
    "actor": "kim",
    "actor_id": "55",
    "event_name": "push",
    "sha": "9f1c",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "ref_protected": "true",
    "workflow": "ci",
    "workflow_ref": MAIN_REF,
    "workflow_sha": "9f1c",
    "job_workflow_ref": MAIN_REF,
    "run_id": "9001",
    "run_attempt": "2",
    "check_run_id": "31337",
}
PROTECTED = Branch("main", protected=True, sha="9f1c")
