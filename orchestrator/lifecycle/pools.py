"""The configured pools as they are now, and for a job that has begun the one that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.model.job import JobId, PoolName
from orchestrator.model.phase import Phase
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

_NOT_BEGUN = frozenset({Phase.QUEUED, Phase.WAITING})


class Pools(Mapping[PoolName, Pool]):
    """As a mapping, what is configured now: `replace` changes it for everybody who holds this object.

    A job whose runner was begun keeps its pool as it was then, also when that is changed or taken out of the
    configuration: what it was promised, and what its evidence says of it, does not change under it.
    """

    def __init__(self, pools: Mapping[PoolName, Pool]) -> None:
        self._now = dict(pools)
        self._begun: dict[JobId, Pool] = {}

    @classmethod
    def over(cls, pools: Mapping[PoolName, Pool]) -> Pools:
        """The same object if it is one already."""
        return pools if isinstance(pools, Pools) else cls(pools)

    def __getitem__(self, name: PoolName) -> Pool:
        return self._now[name]

    def __iter__(self) -> Iterator[PoolName]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def of(self, record: Record) -> Pool | None:
        """The pool that counts for this job; None when it has not begun and its pool is not configured."""
        if record.phase in _NOT_BEGUN:
            return self._now.get(record.offer.spec.pool)
        return self._begun.get(record.id) or self._now.get(record.offer.spec.pool)

    def begin(self, job_id: JobId, pool: Pool) -> None:
        """A runner is begun for this job, and made as `pool` says."""
        self._begun[job_id] = pool

    def forget(self, job_id: JobId) -> None:
        """The job is over."""
        self._begun.pop(job_id, None)

    def replace(self, pools: Mapping[PoolName, Pool]) -> None:
        """Have these configured from now on."""
        self._now = dict(pools)
