"""Looking for queued jobs: every repository in its turn, and what cannot be asked is no trouble of the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from github_examples import JOB

from orchestrator.intake.github.errors import NotFoundError, UnavailableError
from orchestrator.intake.github.rest.objects import DeliveryPage, HookDelivery, RunJob
from orchestrator.intake.github.webhooks.job_table import JobTable, Place
from orchestrator.intake.github.webhooks.poll import MAX_PLACES, PLACES_AT_A_LOOK, MissedDeliveries, QueuedJobs

QUEUED = replace(JOB, status="queued", labels=("x64",), runner_name="")


@dataclass
class Api:
    """Queued jobs by repository, jobs by id, and who answers with an error."""

    queued: dict[str, list[RunJob]] = field(default_factory=dict)
    jobs: dict[int, RunJob] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def queued_jobs(self, owner: str, repository: str) -> list[RunJob]:
        self.asked.append(f"{owner}/{repository}")
        if repository in self.errors:
            raise self.errors[repository]
        return self.queued.get(repository, [])

    async def job(self, owner: str, repository: str, job_id: int) -> RunJob:
        if job_id not in self.jobs:
            raise NotFoundError("no such job")
        return self.jobs[job_id]


def made(api: Api, *places: str) -> tuple[QueuedJobs, JobTable]:
    table = JobTable([("x64",)])
    return QueuedJobs(api, table, [Place("acme", name) for name in places]), table  # type: ignore[arg-type]


async def test_configured_and_known_repositories_are_asked_once_each():
    api = Api()
    queued, _ = made(api, "shop")
    queued.heard_of(Place("ACME", "Shop"))
    queued.heard_of(Place("acme", "web"))
    await queued.look()
    assert sorted(api.asked) == ["acme/shop", "acme/web"]


async def test_many_take_turns():
    api = Api()
    queued, _ = made(api, *(f"r{number}" for number in range(PLACES_AT_A_LOOK + 10)))
    await queued.look()
    assert len(api.asked) == PLACES_AT_A_LOOK
    await queued.look()
    assert len(set(api.asked)) == PLACES_AT_A_LOOK + 10
    assert len(api.asked) == 2 * PLACES_AT_A_LOOK


async def test_what_was_heard_of_longest_ago_is_forgotten():
    api = Api()
    queued, _ = made(api)
    for number in range(MAX_PLACES + 1):
        queued.heard_of(Place("acme", f"r{number}"))
    for _ in range(MAX_PLACES // PLACES_AT_A_LOOK):
        await queued.look()
    assert len(set(api.asked)) == MAX_PLACES
    assert "acme/r0" not in api.asked


async def test_one_that_does_not_answer_is_no_trouble_of_the_others():
    api = Api({"web": [QUEUED]}, errors={"shop": UnavailableError("away"), "gone": NotFoundError("gone")})
    queued, _ = made(api, "shop", "web")
    queued.heard_of(Place("acme", "gone"))
    found = await queued.look()
    assert [(one.place.repository, one.job) for one in found] == [("web", QUEUED)]
    await queued.look()
    assert api.asked.count("acme/gone") == 1
    assert api.asked.count("acme/shop") == 2


async def test_a_job_that_is_queued_no_more_is_looked_at():
    running = replace(QUEUED, status="in_progress", runner_name="runner-1")
    api = Api({"shop": [replace(QUEUED, id=3)]}, jobs={1: replace(running, id=1)})
    queued, table = made(api, "shop")
    for number in (1, 2, 3):
        table.see(Place("acme", "shop"), replace(QUEUED, id=number))
    found = await queued.look()
    assert sorted((one.job.id, one.job.status) for one in found) == [(1, "in_progress"), (3, "queued")]
    assert sorted(known.job.id for known in table.queued(0)) == [1, 3], "GitHub does not know the other any more"


@dataclass
class Hook:
    """One failed delivery that the inbox never had."""

    at_ns: int = 0
    again: list[int] = field(default_factory=list)

    async def hook_deliveries(self, hook_id: int | None, cursor: str) -> DeliveryPage:
        failed = HookDelivery(7, "guid", "workflow_job", "queued", "timed out", 0, False, self.at_ns)
        return DeliveryPage((failed,) if self.at_ns else ())

    async def redeliver(self, delivery_id: int, hook_id: int | None) -> None:
        self.again.append(delivery_id)

    async def knows(self, delivery: str) -> bool:
        return False


async def test_a_clock_that_was_ahead_for_a_while_hides_no_failed_delivery():
    hook, now, year = Hook(), [1_800_000_000 * 10**9], 365 * 86_400 * 10**9
    missed = MissedDeliveries(hook, hook, None, lambda: now[0])  # type: ignore[arg-type]
    now[0] += year
    await missed.look()
    now[0] -= year
    hook.at_ns = now[0] - 60 * 10**9
    await missed.look()
    assert hook.again == [7]
