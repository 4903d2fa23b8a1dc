"""The jobs that webhooks and polling have led to, as GitHub's API showed each of them last. Pure.

Kept in memory only: after a start queued jobs are looked for again, and runners that have a job are the engine's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from orchestrator.intake.github.rest.objects import RunJob
from orchestrator.intake.github.scale_sets.messages import JobMessage, JobMessageKind

MAX_OVER: Final = 20_000
"""Jobs remembered as over, so that an answer which was long under way does not bring one back."""

MAX_OPEN: Final = 20_000
"""Jobs remembered as queued or running. Of running ones nobody asks: one whose end no webhook told stays here."""

_RANKS: Final = {"queued": 0, "in_progress": 1, "completed": 2}
"""A job never goes back: another attempt is another job. *waiting*, *pending* and *requested* want no runner yet."""


class Place(NamedTuple):
    """A repository. GitHub ignores the case of both names."""

    owner: str
    repository: str

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.repository}".lower()


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job and where it is. `rule` is the number of the label rule that it fits, None if it fits none."""

    place: Place
    job: RunJob
    rule: int | None

    def message(self, kind: JobMessageKind) -> JobMessage:
        """The job in the words of a scale set's messages, which the rest of the source understands."""
        job = self.job
        return JobMessage(
            kind=kind,
            job_id=str(job.id),
            owner=self.place.owner,
            repository=self.place.repository,
            name=job.name,
            run_id=job.run_id,
            labels=job.labels,
            queued_at_ns=job.created_at_ns,
            assigned_at_ns=job.created_at_ns,
            runner_assigned_at_ns=job.started_at_ns,
            runner_id=job.runner_id,
            runner_name=job.runner_name,
            result=job.conclusion.lower(),
        )


def _newer(job: RunJob, former: RunJob) -> bool:
    """Whether it is further on. Which runner has it may be told later than that one has it."""
    if job.status == former.status:
        return job.runner_name != "" and former.runner_name == ""
    return _RANKS[job.status] > _RANKS[former.status]


class JobTable:
    """`rules` are the labels of each rule; the first that has all labels of a job takes it."""

    def __init__(self, rules: Sequence[Iterable[str]]) -> None:
        self._rules = tuple(frozenset(label.lower() for label in labels) | {"self-hosted"} for labels in rules)
        self._open: dict[int, KnownJob] = {}
        self._over: dict[int, None] = {}

    def rule_of(self, labels: Collection[str]) -> int | None:
        """A job without labels is not for self-hosted runners."""
        wanted = {label.lower() for label in labels}
        fitting = (number for number, rule in enumerate(self._rules) if wanted <= rule)
        return next(fitting, None) if wanted else None

    def see(self, place: Place, job: RunJob) -> KnownJob | None:
        """Take note of a job as the API shows it now; None when that says nothing new, or nothing for us."""
        rank = _RANKS.get(job.status)
        if rank is None or job.id in self._over:
            return None
        former = self._open.get(job.id)
        if former is not None and not _newer(job, former.job):
            return None
        known = KnownJob(place, job, self.rule_of(job.labels))
        if job.status == "completed":
            self._open.pop(job.id, None)
            self._over[job.id] = None
            if len(self._over) > MAX_OVER:
                del self._over[next(iter(self._over))]
        elif known.rule is not None:
            self._open[job.id] = known
            if len(self._open) > MAX_OPEN:
                running = (number for number, one in self._open.items() if one.job.status == "in_progress")
                del self._open[next(running, next(iter(self._open)))]
        return known

    def forget(self, job_id: int) -> None:
        """GitHub does not know the job any more, or what it showed of it is to be news once more."""
        self._open.pop(job_id, None)
        self._over.pop(job_id, None)

    def queued(self, rule: int) -> list[KnownJob]:
        """Jobs that wait for a runner of this rule, the oldest first."""
        return self._of(rule, "queued")

    def running(self, rule: int) -> list[KnownJob]:
        return self._of(rule, "in_progress")

    def unseen(self, place: Place, seen: Collection[int]) -> list[KnownJob]:
        """Queued jobs of a repository that a fresh list of its queued jobs does not have."""
        return [
            known
            for known in self._open.values()
            if known.place.key == place.key and known.job.status == "queued" and known.job.id not in seen
        ]

    def _of(self, rule: int, status: str) -> list[KnownJob]:
        found = [known for known in self._open.values() if known.rule == rule and known.job.status == status]
        return sorted(found, key=lambda known: known.job.id)
