"""Which jobs may still hold which value of a secret, read from the feed of facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.model.events import Fact, JobFinished, SecretDelivered
from orchestrator.model.job import JobId

_Held = tuple[str, str]
"""A secret's name, and the version of its value."""


class SecretHolders:
    """From delivery until the job is verified gone. Feed it with `adopt(await journal.live())`, then `observe`."""

    def __init__(self) -> None:
        self._of_job: dict[JobId, set[_Held]] = {}

    def adopt(self, jobs: Iterable[Sequence[Fact]]) -> None:
        for facts in jobs:
            self.observe(facts)

    def observe(self, facts: Sequence[Fact]) -> None:
        """For `journal.subscribe`."""
        for fact in facts:
            match fact.event:
                case SecretDelivered(name, version):
                    self._of_job.setdefault(fact.job_id, set()).add((name, version))
                case JobFinished():
                    self.forget(fact.job_id)
                case _:
                    pass

    def expect(self, job_id: JobId, name: str, version: str) -> None:
        """It is about to be delivered: hold it from before that is recorded."""
        self._of_job.setdefault(job_id, set()).add((name, version))

    def forget(self, job_id: JobId) -> None:
        self._of_job.pop(job_id, None)

    def hold(self, name: str, version: str) -> bool:
        """Whether any job may hold this value now."""
        return any((name, version) in held for held in self._of_job.values())

    def count(self, name: str) -> int:
        """Jobs that may hold any value of the secret now."""
        return sum(any(one == name for one, _ in held) for held in self._of_job.values())
