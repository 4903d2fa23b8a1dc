"""Asks GitHub's API for what a job's facts need, and asks once where many jobs need the same.

Jobs that start together often are of one run, and all jobs of a repository want to know of the same few branches: each
answer serves everybody who waits for it, and for a while those who come later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from orchestrator.intake.asked_once import MAX_ENTRIES, AskedOnce
from orchestrator.intake.github import facts
from orchestrator.intake.github.errors import NotFoundError
from orchestrator.intake.github.facts import FactsDisagreeError, ResolvedRef, check_agreement
from orchestrator.intake.github.rest.objects import Branch, RunJob, WorkflowRun
from orchestrator.intake.github.urls import GitHubUrl
from orchestrator.model.platform import PlatformJob

RUN_SECONDS: Final = 300.0
"""A run's event, head and actor never change, so this only bounds memory."""
JOBS_SECONDS: Final = 2.0
"""Least time between two looks at the jobs of one run."""
BRANCH_SECONDS: Final = 60.0
"""How long a branch may count as protected after its protection was taken away."""
MAX_EARLIER_ATTEMPTS: Final = 3
EARLIER_SECONDS: Final = 30.0
"""As `JOBS_SECONDS`, of an attempt that is not the latest: its jobs had their runners long ago."""
_MAX_JOB_LISTS: Final = 200
"""Of runs; one list may have thousands of jobs."""


class FactSource(Protocol):
    """What is asked of `RestClient`."""

    async def workflow_run(self, owner: str, repository: str, run_id: int) -> WorkflowRun: ...

    async def run_jobs(self, owner: str, repository: str, run_id: int, attempt: int | None = None) -> list[RunJob]: ...

    async def branch(self, owner: str, repository: str, name: str) -> Branch | None: ...

    async def tag_exists(self, owner: str, repository: str, name: str) -> bool: ...


_Place = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class _Runner:
    """As GitHub knows it; without ids the name decides."""

    name: str
    ids: Collection[int]

    def job_in(self, jobs: Iterable[RunJob]) -> RunJob | None:
        fits = (job for job in jobs if job.runner_name == self.name and (not self.ids or job.runner_id in self.ids))
        return next(fits, None)


class JobFacts:
    """Facts of the jobs of one source. `issuer` is the one of GitHub's job tokens, `monotonic` gives seconds.

    Errors of its methods besides `FactsDisagreeError` are those of `RestClient`.
    """

    def __init__(self, source: FactSource, url: GitHubUrl, issuer: str, monotonic: Callable[[], float]) -> None:
        self._shown: dict[str, RunJob] = {}
        self._url = url
        self._issuer = issuer
        self._runs: AskedOnce[_Place, WorkflowRun] = AskedOnce(lambda place: source.workflow_run(*place), monotonic)
        self._jobs: AskedOnce[_Place, list[RunJob]] = AskedOnce(
            lambda place: source.run_jobs(*place), monotonic, _MAX_JOB_LISTS
        )
        self._earlier: AskedOnce[tuple[_Place, int], list[RunJob]] = AskedOnce(
            lambda key: source.run_jobs(*key[0], key[1]), monotonic, _MAX_JOB_LISTS
        )
        self._branches: AskedOnce[tuple[str, str, str], Branch | None] = AskedOnce(
            lambda place: source.branch(*place), monotonic
        )
        self._tags: AskedOnce[tuple[str, str, str], bool] = AskedOnce(
            lambda place: source.tag_exists(*place), monotonic
        )

    def covers(self, owner: str, repository: str) -> bool:
        """Whether a stranger may point to this repository: one of the source's own. Anybody may give a runner of their
        own, in a repository of theirs, the name that one of ours has."""
        return self._url.covers(owner, repository)

    def saw(self, job: RunJob) -> None:
        """The API has shown this job just now: it need not be asked which one its runner has."""
        if job.runner_name:
            self._shown[job.runner_name] = job
            if len(self._shown) > MAX_ENTRIES:
                del self._shown[next(iter(self._shown))]

    async def by_runner(
        self,
        owner: str,
        repository: str,
        run_id: int,
        registered: str,
        *,
        runner_ids: Collection[int] = (),
        workflow_ref: str = "",
    ) -> PlatformJob | None:
        """The job of this run that GitHub has given to the runner registered under this name; None: not yet known.

        `runner_ids` are those that the runner can have, none where they are not known: names are unique in one scope
        of registrations only. `workflow_ref` is the message's `job_workflow_ref`, which tells the ref for certain;
        empty where there is none.

        Raises:
            FactsDisagreeError: the run is of another repository.
        """
        place = (owner, repository, run_id)
        runner = _Runner(registered, runner_ids)
        shown = self._shown.get(registered)
        job = runner.job_in(self._jobs.known(place) or ()) or runner.job_in((shown,) if shown else ())
        if job is None or job.run_id != run_id:
            jobs = await self._jobs.get(place, JOBS_SECONDS)
            job = runner.job_in(jobs) or await self._of_earlier(place, jobs, runner)
        return None if job is None else await self.by_job(owner, repository, job, workflow_ref=workflow_ref)

    async def by_job(self, owner: str, repository: str, job: RunJob, *, workflow_ref: str = "") -> PlatformJob:
        """The job that the API has shown as `job`.

        Raises:
            FactsDisagreeError: its run is of another repository.
        """
        run = await self._runs.get((owner, repository, job.run_id), RUN_SECONDS)
        check_agreement({"repository": run.repository.full_name}, {"repository": f"{owner}/{repository}"})
        ref = await self._ref(owner, repository, run, workflow_ref)
        return facts.job_from_api(self._url, self._issuer, run, job, ref, workflow_ref=workflow_ref)

    async def by_claims(self, claims: Mapping[str, str], *, name: str = "") -> PlatformJob | None:
        """The job that verified claims describe. The API is asked only where a fork may be behind it.

        None where the claims do not tell which job it is (older GHES); then `by_runner` has to find it.

        Raises:
            FactsDisagreeError: the API knows this run as something else.
        """
        run = None
        if claims.get("event_name", "") in facts.FORK_EVENTS:
            owner, _, repository = claims.get("repository", "").partition("/")
            try:
                run = await self._runs.get((owner, repository, int(claims.get("run_id", "0"))), RUN_SECONDS)
            except NotFoundError as error:
                raise FactsDisagreeError("the API does not know the run that the token is of") from error
        whole = await self._with_protection(claims)
        return facts.job_from_claims(self._url, self._issuer, whole, run=run, name=name)

    async def _with_protection(self, claims: Mapping[str, str]) -> Mapping[str, str]:
        """Tokens of older servers do not tell whether a branch is protected; the API does."""
        ref = claims.get("ref", "")
        if claims.get("ref_protected") or not ref.startswith("refs/heads/"):
            return claims
        owner, _, repository = claims.get("repository", "").partition("/")
        branch = await self._branches.get((owner, repository, ref.removeprefix("refs/heads/")), BRANCH_SECONDS)
        return {**claims, "ref_protected": "true" if branch is not None and branch.protected else "false"}

    async def _of_earlier(self, place: _Place, jobs: list[RunJob], runner: _Runner) -> RunJob | None:
        """When a run was started again meanwhile, its earlier jobs are no more among the latest ones."""
        latest = max((job.run_attempt for job in jobs), default=1)
        for attempt in range(latest - 1, max(latest - 1 - MAX_EARLIER_ATTEMPTS, 0), -1):
            job = runner.job_in(await self._earlier.get((place, attempt), EARLIER_SECONDS))
            if job is not None:
                return job
        return None

    async def _ref(self, owner: str, repository: str, run: WorkflowRun, workflow_ref: str) -> ResolvedRef:
        ref = facts.ref_of_message(run, workflow_ref)
        if ref.startswith("refs/heads/"):
            branch = await self._branches.get((owner, repository, ref.removeprefix("refs/heads/")), BRANCH_SECONDS)
            return ResolvedRef(ref, branch is not None and branch.protected)
        if ref:
            return ResolvedRef(ref)
        if run.event not in facts.COMMIT_EVENTS or not run.head_branch:
            return ResolvedRef()
        head = (owner, repository, run.head_branch)
        branch = await self._branches.get(head, BRANCH_SECONDS)
        return facts.ref_of_head(run, branch, tag=await self._tags.get(head, BRANCH_SECONDS))
