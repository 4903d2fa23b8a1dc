"""Which scale set gets a job, which of its runners, and what the set's listener is told. No HTTP.

A job goes queued → (available → acquired, on GHES) → assigned → running → completed. The service assigns no more
than the capacity that the listener named at its last poll, and gives the job to any idle runner of the set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.testing.github.clock import GitHubClock, instant
from orchestrator.testing.github.model import Flavour, Job, JobState, Message, Options, Runner, ScaleSet

Changed = Callable[[str, Job], None]


class Assignment:
    """Moves jobs between the queues of their set. `changed` hears `queued`, `in_progress` and `completed`.

    `pick` chooses the runner among a set's idle ones; the first that came unless replaced. `hold_started` keeps
    every JobStarted back for so many seconds.
    """

    def __init__(self, clock: GitHubClock, options: Options, changed: Changed) -> None:
        self._clock = clock
        self._options = options
        self._changed = changed
        self.sets: dict[int, ScaleSet] = {}
        self.unmatched: dict[str, Job] = {}
        self.plain_idle: dict[int, Runner] = {}
        self.pick: Callable[[list[Runner], Job], Runner] = lambda idle, job: idle[0]
        self.hold_started = 0.0

    def place(self, job: Job) -> None:
        """Queue the job at the set, or at the single runner, that its labels are for."""
        found = [one for one in self.sets.values() if one.enabled and _fits(one, job)]
        if not found:
            self.unmatched[job.key] = job
            self._match_plain()
            return
        chosen = min(found, key=lambda one: len(one.backlog) + len(one.assigned) + len(one.running))
        job.scale_set = chosen
        chosen.backlog[job.key] = job
        self.pump(chosen)

    def place_unmatched(self) -> None:
        """Look again for a home of every job that has none: a set or a runner is new."""
        waiting, self.unmatched = self.unmatched, {}
        for job in waiting.values():
            self.place(job)

    def pump(self, one: ScaleSet) -> None:
        """Bring the set's jobs as far as capacity and idle runners allow."""
        ghes = self._options.flavour is Flavour.GHES
        if ghes:
            while one.backlog:
                job = _first(one.backlog)
                one.available[job.key] = job
                job.state = JobState.AVAILABLE
                self._tell(one, job, "JobAvailable", acquireJobUrl="")
        ready = one.acquired if ghes else one.backlog
        while ready and len(one.assigned) + len(one.running) < one.capacity:
            self._assign(one, _first(ready))
        while one.idle and one.assigned:
            job = _first(one.assigned)
            runner = self.pick(list(one.idle.values()), job)
            self._start(job, runner, one)

    def acquire(self, one: ScaleSet, request_ids: list[int]) -> list[int]:
        """Take announced jobs; returns the ids that were really won."""
        wanted = set(request_ids)
        won = [job for job in one.available.values() if job.request_id in wanted]
        for job in won:
            del one.available[job.key]
            one.acquired[job.key] = job
            job.state = JobState.ACQUIRED
        self.pump(one)
        return [job.request_id for job in won]

    def online(self, runner: Runner) -> None:
        """The runner is there and idle."""
        if runner.scale_set is None:
            self.plain_idle[runner.id] = runner
            self._match_plain()
        else:
            runner.scale_set.idle[runner.id] = runner
            self.pump(runner.scale_set)

    def offline(self, runner: Runner) -> None:
        self.plain_idle.pop(runner.id, None)
        if runner.scale_set is not None:
            runner.scale_set.idle.pop(runner.id, None)

    def finish(self, job: Job, result: str) -> None:
        """The job has ended: from wherever it was."""
        one, was_told = job.scale_set, job.state not in (JobState.QUEUED, JobState.WAITING)
        self._withdraw(job)
        job.state, job.result, job.completed_at = JobState.COMPLETED, result, self._clock.now()
        if one is not None and was_told:
            self._tell(one, job, "JobCompleted", **_completed(job))
        self._changed("completed", job)
        if one is not None:
            self.pump(one)

    def requeue(self, job: Job) -> None:
        """No runner took the job in time: it is told as canceled, rests, and is assigned again."""
        one = job.scale_set
        if job.state is not JobState.ASSIGNED or one is None:
            return
        self._withdraw(job)
        delays = self._options.requeue_delays
        delay = delays[min(job.rounds, len(delays) - 1)] if delays else 0
        job.rounds += 1
        job.state, job.assigned_at = JobState.QUEUED, None
        self._tell(one, job, "JobCompleted", **_completed(job) | {"result": "canceled"})
        self._clock.call_later(delay, lambda: self._again(job))

    def leave(self, one: ScaleSet) -> None:
        """The set is gone: what was not running yet looks for another one."""
        jobs = [*one.backlog.values(), *one.available.values(), *one.acquired.values(), *one.assigned.values()]
        for job in jobs:
            self._withdraw(job)
            job.scale_set, job.state, job.assigned_at = None, JobState.QUEUED, None
            self.unmatched[job.key] = job
        self.place_unmatched()

    def tell_again(self, one: ScaleSet, job: Job, kind: str) -> None:
        """Send one of the job's messages once more, as it would read now."""
        extra: dict[str, Any] = {"JobStarted": _runner_of(job), "JobCompleted": _completed(job)}.get(kind, {})
        self._tell(one, job, kind, **extra)

    def next_message(self, one: ScaleSet, last: int) -> Message | None:
        """The first message that was not deleted, or a new one made of what has happened since."""
        for message in one.messages.values():
            if message.id > last or self._options.redeliver_older:
                return message
        if not one.events:
            return None
        events = [one.events.popleft() for _ in range(min(len(one.events), self._options.events_per_message))]
        return self._seal(one, msgspec.json.encode(events).decode())

    def tell_statistics(self, one: ScaleSet) -> None:
        """A message that holds nothing but the statistics."""
        self._seal(one, "")
        _wake(one)

    def _seal(self, one: ScaleSet, body: str) -> Message:
        one.last_message += 1
        message = Message(one.last_message, body)
        one.messages[message.id] = message
        return message

    def _again(self, job: Job) -> None:
        if job.state is JobState.QUEUED and job.scale_set is not None and job.scale_set.id in self.sets:
            job.scale_set.backlog[job.key] = job
            self.pump(job.scale_set)
        elif job.state is JobState.QUEUED:
            self.place(job)

    def _assign(self, one: ScaleSet, job: Job) -> None:
        one.assigned[job.key] = job
        job.state, job.assigned_at = JobState.ASSIGNED, self._clock.now()
        job.cancel_timer = self._clock.call_later(self._options.unclaimed, lambda: self.requeue(job))
        self._tell(one, job, "JobAssigned")

    def _start(self, job: Job, runner: Runner, one: ScaleSet | None) -> None:
        self._withdraw(job)
        self.offline(runner)
        job.state, job.started_at, job.starts = JobState.RUNNING, self._clock.now(), job.starts + 1
        job.runner, job.runner_id, job.runner_name = runner, runner.id, runner.name
        runner.job = job
        if one is not None:
            one.running[job.key] = job
            if self.hold_started:
                self._clock.call_later(self.hold_started, lambda: self.tell_again(one, job, "JobStarted"))
            else:
                self._tell(one, job, "JobStarted", **_runner_of(job))
        if runner.waiter is not None and not runner.waiter.done():
            runner.waiter.set_result(None)
        self._changed("in_progress", job)

    def _match_plain(self) -> None:
        for runner in list(self.plain_idle.values()):
            have = {label.lower() for label in runner.labels}
            for job in self.unmatched.values():
                if _in_scope(runner.scope, job) and have >= {label.lower() for label in job.plan.labels}:
                    self._start(job, runner, None)
                    break

    def _withdraw(self, job: Job) -> None:
        """Out of whatever queue it is in."""
        if job.cancel_timer is not None:
            job.cancel_timer()
            job.cancel_timer = None
        self.unmatched.pop(job.key, None)
        if (one := job.scale_set) is not None:
            for queue in (one.backlog, one.available, one.acquired, one.assigned, one.running):
                queue.pop(job.key, None)

    def _tell(self, one: ScaleSet, job: Job, kind: str, **extra: Any) -> None:
        one.events.append(self._event(job, kind) | extra)
        _wake(one)

    def _event(self, job: Job, kind: str) -> dict[str, Any]:
        run = job.run
        return {
            "messageType": kind,
            "runnerRequestId": job.request_id if self._options.flavour is Flavour.GHES else 0,
            "jobId": job.key,
            "repositoryName": run.repository.name,
            "ownerName": run.repository.owner.login,
            "jobWorkflowRef": job.plan.job_workflow_ref or run.workflow_ref,
            "jobDisplayName": job.plan.name,
            "workflowRunId": run.id,
            "eventName": run.event,
            "requestLabels": list(job.plan.labels),
            "queueTime": instant(job.created_at),
            "scaleSetAssignTime": instant(job.assigned_at),
            "runnerAssignTime": instant(job.started_at),
            "finishTime": instant(job.completed_at),
        }


def statistics(one: ScaleSet) -> dict[str, int]:
    """As the set stands now. Assigned includes running."""
    online = len(one.idle) + len(one.running)
    return {
        "totalAvailableJobs": len(one.available),
        "totalAcquiredJobs": len(one.acquired),
        "totalAssignedJobs": len(one.assigned) + len(one.running),
        "totalRunningJobs": len(one.running),
        "totalRegisteredRunners": len(one.runners),
        "totalBusyRunners": len(one.running),
        "totalIdleRunners": online - len(one.running),
    }


def _runner_of(job: Job) -> dict[str, Any]:
    return {"runnerId": job.runner_id, "runnerName": job.runner_name}


def _completed(job: Job) -> dict[str, Any]:
    return {"result": job.result} | _runner_of(job)


def _first(queue: dict[str, Job]) -> Job:
    return queue.pop(next(iter(queue)))


def _wake(one: ScaleSet) -> None:
    waiters: set[asyncio.Future[None]] = one.waiters
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _in_scope(scope: str, job: Job) -> bool:
    """Scopes are an organization, `owner/repository`, or `enterprises/name` which holds everything here."""
    repository = job.run.repository
    return scope.lower() in (repository.full_name.lower(), repository.owner.login.lower()) or scope.startswith(
        "enterprises/"
    )


def _fits(one: ScaleSet, job: Job) -> bool:
    have = {name.lower() for _, name in one.labels}
    wanted = {label.lower() for label in job.plan.labels}
    return wanted <= have and _in_scope(one.scope, job)
