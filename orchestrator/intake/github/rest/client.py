"""GitHub's REST API with the installation's or personal token: runs, jobs, branches, runners, deliveries.

Errors of every method: `UnavailableError` and `RateLimitedError` (after the retries that are allowed),
`UnauthorizedError`, `ForbiddenError`, `NotFoundError`, `RefusedError`, and those that it names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.errors import GitHubError, JitConfigLostError, NotFoundError, UnavailableError
from orchestrator.intake.github.rest import protocol as rest_protocol
from orchestrator.intake.github.rest.answers import (
    parse_branch,
    parse_deliveries,
    parse_job,
    parse_jobs,
    parse_rate_limits,
    parse_rest_jit_config,
    parse_rest_runners,
    parse_run,
    parse_runs,
)
from orchestrator.intake.github.rest.objects import Branch, DeliveryPage, RateLimit, RunJob, WorkflowRun
from orchestrator.intake.github.scale_sets.messages import JitConfig, RunnerEntry
from orchestrator.intake.github.scale_sets.protocol import Credential, Request
from orchestrator.intake.github.tokens import TokenChain
from orchestrator.intake.github.transport import Transport

MAX_PAGES: Final = 100
"""Of 100 items each, of one listing: as many runners as a group may have."""
MAX_RUN_PAGES: Final = 10
"""GitHub lists no more than 1,000 runs of a search."""
_WAITING: Final = ("queued", "in_progress")

T = TypeVar("T")


class RestClient:
    """One for each configured source."""

    def __init__(self, transport: Transport, tokens: TokenChain) -> None:
        self._tokens = tokens
        self._url = transport.connection.url

    async def workflow_run(self, owner: str, repository: str, run_id: int) -> WorkflowRun:
        """The run as of its latest attempt."""
        return await self._get(rest_protocol.workflow_run(self._url, owner, repository, run_id), parse_run)

    async def run_jobs(self, owner: str, repository: str, run_id: int, attempt: int | None = None) -> list[RunJob]:
        """All jobs of one attempt; None is the latest."""
        return await self._pages(
            lambda page: rest_protocol.run_jobs(self._url, owner, repository, run_id, attempt, page), parse_jobs
        )

    async def job(self, owner: str, repository: str, job_id: int) -> RunJob:
        """One job by its REST id, as webhooks name it."""
        return await self._get(rest_protocol.job(self._url, owner, repository, job_id), parse_job)

    async def branch(self, owner: str, repository: str, name: str) -> Branch | None:
        """The branch and whether it is protected; None when there is none of this name."""
        try:
            return await self._get(rest_protocol.branch(self._url, owner, repository, name), parse_branch)
        except NotFoundError:
            return None

    async def tag_exists(self, owner: str, repository: str, name: str) -> bool:
        """Whether there is a tag of exactly this name."""
        try:
            await self._get(rest_protocol.tag(self._url, owner, repository, name), _nothing)
        except NotFoundError:
            return False
        return True

    async def queued_runs(self, owner: str, repository: str) -> list[WorkflowRun]:
        """Runs that may have jobs waiting for a runner, at most 1,000 of each state: for what webhooks missed."""
        found: dict[int, WorkflowRun] = {}
        for status in _WAITING:
            make = partial(rest_protocol.runs, self._url, owner, repository, status)
            runs = await self._pages(make, parse_runs, MAX_RUN_PAGES)
            found.update((run.id, run) for run in runs)
        return list(found.values())

    async def queued_jobs(self, owner: str, repository: str) -> list[RunJob]:
        """Queued jobs of `queued_runs`. One call for each run: not for often."""
        jobs: list[RunJob] = []
        for run in await self.queued_runs(owner, repository):
            with contextlib.suppress(NotFoundError):  # deleted meanwhile
                jobs += [job for job in await self.run_jobs(owner, repository, run.id) if job.status == "queued"]
        return jobs

    async def runners(self) -> list[RunnerEntry]:
        """Every runner of the scope."""
        return await self._pages(lambda page: rest_protocol.list_runners(self._url, page), parse_rest_runners)

    async def runner_by_name(self, name: str) -> RunnerEntry | None:
        found = await self._get(rest_protocol.runner_by_name(self._url, name), parse_rest_runners)
        return next((runner for runner in found if runner.name == name), None)

    async def remove_runner(self, runner_id: int) -> None:
        """Take the registration away; nothing happens if it is gone already.

        Raises:
            BusyError: it has a job.
        """
        with contextlib.suppress(NotFoundError):
            await self._get(rest_protocol.remove_runner(self._url, runner_id), _nothing)

    async def generate_jitconfig(
        self, name: str, labels: Iterable[str], group_id: int = 1, work_folder: str = "_work"
    ) -> JitConfig:
        """Register a single-use runner without a scale set. Never repeated once it may have been made.

        Raises:
            RunnerExistsError: the name is taken.
            JitConfigLostError: the answer was lost; what was found of the registration is removed.
        """
        request = rest_protocol.generate_jitconfig(self._url, name, labels, group_id, work_folder)
        try:
            return await self._get(request, parse_rest_jit_config)
        except UnavailableError as error:
            if not error.may_have_done(request.endpoint):
                raise
            raise await self._lost(name, error) from error

    async def hook_deliveries(self, hook_id: int | None = None, cursor: str = "") -> DeliveryPage:
        """Deliveries of a webhook of the scope, newest first; None is the App's own hook. Kept 3 days, on GHES 7."""
        return await self._call(rest_protocol.hook_deliveries(self._url, hook_id, cursor), _delivery_page)

    async def redeliver(self, delivery_id: int, hook_id: int | None = None) -> None:
        """Ask for the delivery once more; it comes with the same GUID."""
        await self._call(rest_protocol.redeliver(self._url, hook_id, delivery_id), lambda _: None)

    async def rate_limit(self) -> list[RateLimit]:
        """All buckets. Asking costs nothing; GHES without limits answers `NotFoundError`."""
        return await self._get(rest_protocol.rate_limit(self._url), parse_rate_limits)

    async def _get(self, request: Request, parse: Callable[[bytes], T]) -> T:
        return await self._call(request, lambda answer: parse(answer.body))

    async def _call(self, request: Request, parse: Callable[[Answer], T]) -> T:
        if request.credential is Credential.APP:
            return await self._tokens.as_app(request, parse)
        return await self._tokens.with_access(request, parse)

    async def _pages(
        self, make: Callable[[int], Request], parse: Callable[[bytes], list[T]], most: int = MAX_PAGES
    ) -> list[T]:
        items: list[T] = []
        for page in range(1, most + 1):
            found = await self._get(make(page), parse)
            items += found
            if len(found) < rest_protocol.PAGE:
                break
        return items

    async def _lost(self, name: str, error: UnavailableError) -> JitConfigLostError:
        """Remove what the lost call may have made; what cannot be removed now is left to the sweep."""
        with contextlib.suppress(GitHubError):
            runner = await self.runner_by_name(name)
            if runner is not None:
                await self.remove_runner(runner.id)
        lost = JitConfigLostError(str(error), retry_after_seconds=error.retry_after_seconds)
        lost.call = error.call
        return lost


def _delivery_page(answer: Answer) -> DeliveryPage:
    return DeliveryPage(parse_deliveries(answer.body), next_cursor(answer.headers.get("Link", "")))


def next_cursor(link: str) -> str:
    """The cursor of the next page in a Link header (RFC 8288); the address itself is not followed."""
    for part in link[:8192].split(","):
        target, _, parameters = part.strip().partition(">")
        if target.startswith("<") and 'rel="next"' in parameters.replace(" ", ""):
            try:
                return parse_qs(urlsplit(target[1:]).query).get("cursor", [""])[0][:512]
            except ValueError:
                return ""
    return ""


def _nothing(_: bytes) -> None:
    return None
