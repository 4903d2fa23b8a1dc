"""GitHub's REST API with the installation's or personal token: runs, jobs, branches, runners, deliveries.

Errors of every method: `UnavailableError` and `RateLimitedError` (after the retries that are allowed),
`UnauthorizedError`, `ForbiddenError`, `NotFoundError`, `RefusedError`, and those that it names.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.intake.github.messages import JitConfig, RunnerEntry
from orchestrator.intake.github.rest_objects import Branch, DeliveryPage, RateLimit, RunJob, WorkflowRun
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport


class RestClient:
    """One for each configured source."""

    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._transport = transport
        self._tokens = tokens

    async def workflow_run(self, owner: str, repository: str, run_id: int) -> WorkflowRun:
        """The run as of its latest attempt."""
        raise NotImplementedError

    async def run_jobs(self, owner: str, repository: str, run_id: int, attempt: int | None = None) -> list[RunJob]:
        """All jobs of one attempt; None is the latest."""
        raise NotImplementedError

    async def job(self, owner: str, repository: str, job_id: int) -> RunJob:
        """One job by its REST id, as webhooks name it."""
        raise NotImplementedError

    async def branch(self, owner: str, repository: str, name: str) -> Branch | None:
        """The branch and whether it is protected; None when there is none of this name."""
        raise NotImplementedError

    async def queued_runs(self, owner: str, repository: str) -> list[WorkflowRun]:
        """Runs with jobs that wait for a runner, newest first, at most 1,000: for finding what webhooks missed."""
        raise NotImplementedError

    async def queued_jobs(self, owner: str, repository: str) -> list[RunJob]:
        """Queued jobs of queued runs and of runs in progress. One call for each of them: not for often."""
        raise NotImplementedError

    async def runners(self) -> list[RunnerEntry]:
        """Every runner of the scope."""
        raise NotImplementedError

    async def remove_runner(self, runner_id: int) -> None:
        """Take the registration away; nothing happens if it is gone already.

        Raises:
            BusyError: it has a job.
        """
        raise NotImplementedError

    async def generate_jitconfig(
        self, name: str, labels: Iterable[str], group_id: int = 1, work_folder: str = "_work"
    ) -> JitConfig:
        """Register a single-use runner without a scale set. Never repeated once it may have been made.

        Raises:
            RunnerExistsError: the name is taken.
            JitConfigLostError: the answer was lost; what was found of the registration is removed.
        """
        raise NotImplementedError

    async def hook_deliveries(self, hook_id: int | None = None, cursor: str = "") -> DeliveryPage:
        """Deliveries of a webhook of the scope, newest first; None is the App's own hook. Kept 3 days, on GHES 7."""
        raise NotImplementedError

    async def redeliver(self, delivery_id: int, hook_id: int | None = None) -> None:
        """Ask for the delivery once more; it comes with the same GUID."""
        raise NotImplementedError

    async def rate_limit(self) -> list[RateLimit]:
        """All buckets. Asking costs nothing."""
        raise NotImplementedError
