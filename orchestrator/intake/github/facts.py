"""What policy may believe of a GitHub job: from the claims of its verified token, or from GitHub's API. Pure.

Both ways give the same names (`docs/reference/policy-input.md`). What cannot be known for certain is left out, and the
two that stand for protection are on the safe side: `ref_protected` is *true* only when it is known to be.

Sources: GitHub Docs, OpenID Connect reference and REST API reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import GiveUpError
from orchestrator.intake.github.rest.objects import Branch, RunJob, WorkflowRun
from orchestrator.intake.github.urls import GitHubUrl
from orchestrator.model.job import Caller
from orchestrator.model.platform import PlatformJob

MAX_NAME: Final = 200
MAX_FACT: Final = 1024

COMMIT_EVENTS: Final = frozenset(
    {"push", "workflow_dispatch", "schedule", "repository_dispatch", "merge_group", "create", "release"}
)
"""Events whose run has the commit, and the branch or tag, that its head names: not one made for a pull request."""

FORK_EVENTS: Final = frozenset(
    {"pull_request", "pull_request_target", "pull_request_review", "pull_request_review_comment", "workflow_run"}
)
"""Events that somebody else's repository may have caused; the token does not tell, the API does."""

_FROM_CLAIMS: Final[Mapping[str, str]] = {
    **{
        name: name
        for name in (
            *("repository", "repository_id", "repository_owner", "repository_owner_id", "ref", "ref_type"),
            *("event_name", "environment", "workflow_ref", "workflow_sha", "job_workflow_ref", "sha"),
            *("actor", "actor_id", "run_id", "run_attempt", "check_run_id"),
        )
    },
    "visibility": "repository_visibility",
}
"""Fact to the claim it is; `ref_protected` and `fork` are made apart."""

_IDS: Final = ("repository_id", "repository_owner_id", "run_id", "run_attempt", "check_run_id")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*\Z")
"""As claims of a token must be."""
_REF: Final = re.compile(r"refs/(heads|tags|pull)/[^\x00-\x20\x7f~^:?*\[\\]{1,500}")


class FactsDisagreeError(GiveUpError):
    """Two sources of one job's facts contradict each other: somebody lies, or two jobs are taken for one."""

    reason = "job_facts_disagree"
    fix = "look at the job and its runner at GitHub; the record's alarms name what disagreed"


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """The full ref of a run, or nothing where it is not certain, and whether it is a protected branch."""

    ref: str = ""
    protected: bool = False

    def __post_init__(self) -> None:
        if self.ref and not _REF.fullmatch(self.ref):
            raise ValueError("a ref begins with refs/heads/, refs/tags/ or refs/pull/")


def job_key(url: GitHubUrl, facts: Mapping[str, str]) -> str:
    """One job at one GitHub, for ever: each attempt of a run has check runs of its own."""
    host = url.host.removeprefix("www.")
    return "/".join((host, *(facts[name] for name in ("repository_id", "run_id", "run_attempt", "check_run_id"))))


def job_from_claims(
    url: GitHubUrl, issuer: str, claims: Mapping[str, str], *, run: WorkflowRun | None = None, name: str = ""
) -> PlatformJob | None:
    """The job that verified claims describe; None when they do not tell which one of its run it is (older GHES).

    `run` is the same run by the API, and adds whether a fork caused it; `name` is the job's display name if known.

    Raises:
        FactsDisagreeError: `run` is another one, or of another repository.
    """
    if not all(_NUMBER.fullmatch(claims.get(name, "")) for name in _IDS):
        return None
    facts = {fact: claims[claim] for fact, claim in _FROM_CLAIMS.items() if claims.get(claim)}
    facts["ref_protected"] = "true" if claims.get("ref_protected") == "true" else "false"
    if run is not None:
        told = {"run_id": str(run.id), "repository_id": str(run.repository.id), "event_name": run.event}
        check_agreement(facts, told)
        facts |= _fork(run)
    elif facts.get("event_name", "") not in FORK_EVENTS:
        facts["fork"] = "false"
    shown = name or f"{claims.get('workflow') or 'job'} #{claims['check_run_id']}"
    return _job(url, issuer, facts, shown, proof="oidc")


def job_from_api(
    url: GitHubUrl, issuer: str, run: WorkflowRun, job: RunJob, ref: ResolvedRef, *, workflow_ref: str = ""
) -> PlatformJob:
    """The job that GitHub's API describes. `workflow_ref` is the `job_workflow_ref` of its message, or empty.

    Raises:
        FactsDisagreeError: the job is of another run.
    """
    repository = run.repository
    check_agreement({"run_id": str(run.id)}, {"run_id": str(job.run_id)})
    facts = {
        "repository": repository.full_name,
        "repository_id": str(repository.id),
        "repository_owner": repository.owner or repository.full_name.partition("/")[0],
        "repository_owner_id": str(repository.owner_id or ""),
        "event_name": run.event,
        "actor": run.actor,
        "actor_id": str(run.actor_id or ""),
        "run_id": str(run.id),
        "run_attempt": str(job.run_attempt or 1),
        "check_run_id": str(job.check_run_id or job.id),
        "visibility": repository.visibility or ("private" if repository.private else "public"),
        "ref": ref.ref,
        "ref_type": {"heads": "branch", "tags": "tag", "pull": "branch"}.get(ref.ref[5:].partition("/")[0], ""),
        "job_workflow_ref": workflow_ref,
        **_commit(run, ref),
    }
    if not workflow_ref and not run.referenced_workflows:
        facts["job_workflow_ref"] = facts.get("workflow_ref", "")
    known = {name: value for name, value in facts.items() if value and len(value) <= MAX_FACT and _PLAIN.match(value)}
    known["ref_protected"] = "true" if ref.protected and ref.ref.startswith("refs/heads/") else "false"
    known |= _fork(run)
    return _job(url, issuer, known, job.name, proof="api")


def _commit(run: WorkflowRun, ref: ResolvedRef) -> dict[str, str]:
    """For a pull request the API has the commit that was pushed, the token the merge of it: two different things."""
    found = {"workflow_ref": f"{run.repository.full_name}/{workflow_file(run)}@{ref.ref}"} if ref.ref else {}
    if run.event in COMMIT_EVENTS:
        found |= {"sha": run.head_sha, "workflow_sha": run.head_sha}
    return found


def _fork(run: WorkflowRun) -> dict[str, str]:
    """A head whose repository is gone was a fork's. That of a `workflow_run` is the repository's own whoever caused the
    run before it, which is not told."""
    own = run.head_repository is not None and run.head_repository.id == run.repository.id
    if own and run.event == "workflow_run":
        return {}
    return {"fork": "false" if own else "true"}


def _job(url: GitHubUrl, issuer: str, facts: Mapping[str, str], name: str, *, proof: str) -> PlatformJob:
    """The subject holds what both proofs know: the repository, by name and by number."""
    owner, _, repository = facts["repository"].partition("/")
    subject = f"repo:{owner}@{facts.get('repository_owner_id', '')}/{repository}@{facts['repository_id']}"
    return PlatformJob(
        key=job_key(url, facts),
        name=_printable(name[:MAX_NAME]) or f"job #{facts['check_run_id']}",
        caller=Caller(issuer, subject, dict(sorted(facts.items()))),
        pipeline=f"{facts['repository']}/runs/{facts['run_id']}"[:MAX_NAME],
        deployment_environment=facts.get("environment", ""),
        proof=proof,
    )


def _printable(name: str) -> str:
    """A workflow's author chooses it, and people see it in their terminals."""
    return "".join(sign if sign.isprintable() else " " for sign in name).strip()


def workflow_file(run: WorkflowRun) -> str:
    """The workflow's file below the repository; on some events the API appends its ref."""
    return run.path.partition("@")[0]


def ref_of_message(run: WorkflowRun, workflow_ref: str) -> str:
    """The run's full ref as the message's `job_workflow_ref` has it, or empty: of a job that a reusable workflow holds
    it is that workflow's ref and says nothing."""
    repository, path, ref = split_workflow_ref(workflow_ref)
    same = repository.lower() == run.repository.full_name.lower() and path == workflow_file(run)
    called = any(split_workflow_ref(used.path)[:2] == (repository, path) for used in run.referenced_workflows)
    return ref if same and not called and _REF.fullmatch(ref) else ""


def ref_of_head(run: WorkflowRun, branch: Branch | None, *, tag: bool) -> ResolvedRef:
    """The run's ref by its head's bare name; `tag` says whether a tag of this name exists now, `branch` is the branch.

    Names that both have are nobody's. Between the run and this look somebody may have put a branch in the place of the
    tag that really ran, so a branch counts as protected only while the run's commit is its tip.
    """
    if run.event not in COMMIT_EVENTS or (branch is None) == (not tag):
        return ResolvedRef()
    ref = f"refs/{'tags' if tag else 'heads'}/{run.head_branch}"
    protected = branch is not None and branch.protected and branch.sha == run.head_sha != ""
    return ResolvedRef(ref, protected) if _REF.fullmatch(ref) else ResolvedRef()


def split_workflow_ref(text: str) -> tuple[str, str, str]:
    """`owner/repo/path@ref` as repository, path and ref; empty where it is not of this form."""
    place, _, ref = text.partition("@")
    owner, _, rest = place.partition("/")
    repository, _, path = rest.partition("/")
    return (f"{owner}/{repository}", path, ref) if path and ref else ("", "", "")


def check_agreement(facts: Mapping[str, str], told: Mapping[str, str]) -> None:
    """Hold what somebody told against the facts; what either does not have is passed over. Names ignore case.

    Raises:
        FactsDisagreeError: names the facts, and repeats no value.
    """
    wrong = [name for name, value in told.items() if value and facts.get(name) and not _same(name, value, facts[name])]
    if wrong:
        raise FactsDisagreeError(f"what is told of the job contradicts GitHub's facts: {', '.join(sorted(wrong))}")


def _same(name: str, one: str, other: str) -> bool:
    return one.lower() == other.lower() if name in ("repository", "repository_owner") else one == other
