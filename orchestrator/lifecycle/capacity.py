"""Who gets the next runner of a pool: first come first served within a caller, callers in turn. No I/O."""

from __future__ import annotations

from collections import OrderedDict

from orchestrator.model.job import JobId


class Slots:
    """The runner slots of one pool.

    A freed slot is handed to the next waiting job at once, so that a job arriving later cannot slip in
    before it. Callers take turns: one that queues thousands of jobs does not starve the others.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: set[JobId] = set()
        self._waiting: OrderedDict[str, OrderedDict[JobId, None]] = OrderedDict()
        self._caller_of: dict[JobId, str] = {}

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def held(self) -> int:
        return len(self._held)

    @property
    def waiting(self) -> int:
        return len(self._caller_of)

    def before(self, job: JobId) -> int | None:
        """How many of those who wait now get a slot before this job; None when it does not wait. Takes time with the
        length of the line."""
        caller = self._caller_of.get(job)
        if caller is None:
            return None
        place = next(place for place, waiting in enumerate(self._waiting[caller]) if waiting == job)
        count, turns = place, place + 1
        for other, jobs in self._waiting.items():
            if other == caller:
                turns = place
            else:
                count += min(len(jobs), turns)
        return count

    def take(self, job: JobId, caller: str) -> bool:
        """True when the job holds a slot (also when it held one before); else it waits in line."""
        if job in self._held:
            return True
        if job in self._caller_of:
            return False
        if len(self._held) < self._capacity and not self._caller_of:
            self._held.add(job)
            return True
        self._waiting.setdefault(caller, OrderedDict())[job] = None
        self._caller_of[job] = caller
        return False

    def adopt(self, job: JobId) -> None:
        """Count a slot that was taken before a restart, even beyond today's capacity."""
        self._held.add(job)

    def release(self, job: JobId) -> tuple[JobId, ...]:
        """Give up the job's slot or its place in line; returns the jobs that hold a slot from now on."""
        self._held.discard(job)
        self._leave(job)
        return self._grant()

    def resize(self, capacity: int) -> tuple[JobId, ...]:
        """Have so many slots from now on; returns the jobs that hold one from now on. Those held beyond it stay held
        until their jobs are over."""
        self._capacity = capacity
        return self._grant()

    def _grant(self) -> tuple[JobId, ...]:
        granted = []
        while self._caller_of and len(self._held) < self._capacity:
            granted.append(self._next())
        return tuple(granted)

    def _next(self) -> JobId:
        caller, jobs = next(iter(self._waiting.items()))
        job = next(iter(jobs))
        self._leave(job)
        if caller in self._waiting:
            self._waiting.move_to_end(caller)
        self._held.add(job)
        return job

    def _leave(self, job: JobId) -> None:
        caller = self._caller_of.pop(job, None)
        if caller is None:
            return
        jobs = self._waiting[caller]
        del jobs[job]
        if not jobs:
            del self._waiting[caller]
