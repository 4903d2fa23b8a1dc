"""The platform as a whole: owners, repositories, runs, runners, scale sets and their sessions. No HTTP."""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.testing.github.assignment import Assignment
from orchestrator.testing.github.clock import GitHubClock
from orchestrator.testing.github.model import (
    Job,
    JobPlan,
    JobState,
    Options,
    Owner,
    Repository,
    Run,
    Runner,
    ScaleSet,
    Session,
)
from orchestrator.testing.github.watched import Watched


class GitHubState(Watched):
    """Everything by its id or name. `listeners` hear of each job: `queued`, `waiting`, `in_progress`, `completed`."""

    def __init__(self, clock: GitHubClock, options: Options) -> None:
        super().__init__()
        self.clock = clock
        self.options = options
        self.owners: dict[str, Owner] = {}
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, Repository] = {}
        self.runs: dict[int, Run] = {}
        self.jobs: dict[int, Job] = {}
        self.jobs_by_key: dict[str, Job] = {}
        self.jobs_by_token: dict[str, Job] = {}
        self.runners: dict[int, Runner] = {}
        self.runners_by_secret: dict[str, Runner] = {}
        self.groups: dict[int, str] = {1: "Default"}
        self.listeners: list[Callable[[str, Job], None]] = []
        self.assignment = Assignment(clock, options, self._changed)
        self.ids = itertools.count(1001)
        self._names: dict[tuple[str, str], Runner] = {}

    @property
    def sets(self) -> dict[int, ScaleSet]:
        return self.assignment.sets

    # --- owners, repositories, runs ---

    def add_owner(self, login: str, kind: str = "Organization", subject_keys: tuple[str, ...] = ()) -> Owner:
        owner = self.owners.get(login.lower())
        if owner is None:
            owner = self.owners[login.lower()] = Owner(next(self.ids), login, kind, subject_keys)
        return owner

    def add_repository(
        self, full_name: str, *, branches: Mapping[str, bool] | None = None, visibility: str = "private", **more: Any
    ) -> Repository:
        """`branches` says of each whether it is protected; `main`, not protected, when none is given."""
        login, _, name = full_name.partition("/")
        repository = Repository(next(self.ids), self.add_owner(login), name, visibility, **more)
        repository.branches = dict(branches or {"main": False})
        self.repositories[full_name.lower()] = repository
        return repository

    def dispatch(
        self,
        repository: str,
        jobs: Iterable[JobPlan],
        *,
        event: str = "push",
        ref: str = "",
        actor: str = "kim",
        workflow: str = "ci",
        fork: str = "",
        base_ref: str = "",
        payload: Mapping[str, Any] | None = None,
        sha: str = "",
    ) -> Run:
        """Start a workflow run. `fork` is the repository a pull request comes from, when it is another one; `sha` is
        the ref's head when empty."""
        home = self.repositories[repository.lower()]
        head = self.repositories[fork.lower()] if fork else home
        ref = ref or f"refs/heads/{home.default_branch}"
        pull = event.startswith("pull_request")
        now = self.clock.now()
        run = Run(
            id=next(self.ids),
            number=len(self.runs) + 1,
            repository=home,
            head_repository=head,
            event=event,
            ref=ref,
            sha=sha or head.history.heads.get(ref.removeprefix("refs/heads/")) or secrets.token_hex(20),
            actor=actor,
            actor_id=self.add_owner(actor, "User").id,
            workflow=workflow,
            path=f".github/workflows/{workflow}.yml",
            base_ref=base_ref or ("main" if pull else ""),
            head_ref="feature" if pull else "",
            created_at=now,
            payload=payload or {},
            updated_at=now,
        )
        self.runs[run.id] = run
        self._add_jobs(run, list(jobs))
        return run

    def rerun(self, run: Run) -> None:
        """The next attempt, of all jobs."""
        plans = [job.plan for job in run.jobs]
        run.earlier += run.jobs
        run.jobs, run.attempt = [], run.attempt + 1
        self._add_jobs(run, plans)

    def cancel(self, run: Run) -> None:
        """What has no runner yet ends at once; a runner at work is told, and has `cancel_grace` to report the end."""
        for job in run.jobs:
            if job.state is JobState.RUNNING and job.runner is not None:
                job.runner.cancelled = True
                if job.runner.waiter is not None and not job.runner.waiter.done():
                    job.runner.waiter.set_result(None)
                self.clock.call_later(self.options.cancel_grace, lambda job=job: self.end(job))  # type: ignore[misc]
            else:
                self.end(job)

    def end(self, job: Job, result: str = "canceled") -> None:
        """Let the service say that the job has ended, whatever its runner does."""
        if not job.done:
            self.assignment.finish(job, result)

    def approve(self, run: Run) -> None:
        """Let jobs that wait in front of an environment be queued."""
        for job in run.jobs:
            if job.state is JobState.WAITING:
                job.state = JobState.QUEUED
                self._changed("queued", job)
                self.assignment.place(job)

    def _add_jobs(self, run: Run, plans: list[JobPlan]) -> None:
        for plan in plans:
            now, key = self.clock.now(), str(uuid.uuid4())
            job = Job(next(self.ids), key, next(self.ids), next(self.ids), run, plan, run.attempt, now, "")
            job.token = secrets.token_urlsafe(24)
            run.jobs.append(job)
            self.jobs[job.id] = self.jobs_by_key[key] = self.jobs_by_token[job.token] = job
            self.clock.call_later(self.options.queued_job, lambda job=job: self._too_old(job))  # type: ignore[misc]
        for job in run.jobs:
            job.state = JobState.WAITING if job.plan.waits else JobState.QUEUED
            self._changed(job.state.value, job)
            if job.state is JobState.QUEUED:
                self.assignment.place(job)

    def _too_old(self, job: Job) -> None:
        if job.state not in (JobState.RUNNING, JobState.COMPLETED):
            self.assignment.finish(job, "failed")

    def _changed(self, action: str, job: Job) -> None:
        job.run.updated_at = self.clock.now()
        if action == "in_progress" and job.runner is not None:
            job.runner.heard_at = self.clock.now()
            self._watch_lost(job.runner)
        for listener in self.listeners:
            listener(action, job)
        self.notify()

    # --- runners ---

    def runner_named(self, scope: str, name: str) -> Runner | None:
        return self._names.get((scope.partition("/")[0].lower(), name))

    def register(
        self, scope: str, name: str, *, labels: Iterable[str], group_id: int, work_folder: str, one: ScaleSet | None
    ) -> Runner:
        """A new runner, offline until its program comes. The name must be free."""
        secret = secrets.token_urlsafe(24)
        runner = Runner(
            next(self.ids), name, scope, group_id, tuple(labels), secret, self.clock.now(), work_folder, one
        )
        self.runners[runner.id] = self.runners_by_secret[secret] = runner
        self._names[(scope.partition("/")[0].lower(), name)] = runner
        if one is not None:
            one.runners[runner.id] = runner
        self.clock.call_later(self.options.offline_runner, lambda: self._if_offline(runner))
        if self.options.idle_jit is not None:
            self.clock.call_later(self.options.idle_jit, lambda: self._if_idle(runner))
        self.notify()
        return runner

    def come_online(self, runner: Runner) -> str:
        """The runner program has opened its session; returns the session's id."""
        runner.session_id = str(uuid.uuid4())
        if runner.job is None:
            self.assignment.online(runner)
        self.notify()
        return runner.session_id

    def go_offline(self, runner: Runner) -> None:
        runner.session_id = ""
        self.assignment.offline(runner)
        self.clock.call_later(self.options.offline_runner, lambda: self._if_offline(runner))
        self.notify()

    def finish(self, runner: Runner, result: str) -> None:
        """The runner says how its job ended; single-use, it is de-registered."""
        job = runner.job
        if job is not None and not job.done:
            self.assignment.finish(job, result)
        self.remove_runner(runner)

    def remove_runner(self, runner: Runner) -> None:
        self.assignment.offline(runner)
        runner.session_id, runner.job = "", None
        self.runners.pop(runner.id, None)
        self.runners_by_secret.pop(runner.secret, None)
        self._names.pop((runner.scope.partition("/")[0].lower(), runner.name), None)
        if runner.scale_set is not None:
            runner.scale_set.runners.pop(runner.id, None)
        if runner.waiter is not None and not runner.waiter.done():
            runner.waiter.set_result(None)
        self.notify()

    def _watch_lost(self, runner: Runner) -> None:
        """Abandon the job of a runner that does not ask any more; one with a question open is there."""
        if runner.id not in self.runners or runner.job is None:
            return
        left = runner.heard_at + self.options.lost_runner - self.clock.now()
        if left <= 0 and runner.waiter is None:
            self.finish(runner, "abandoned")
            return
        self.clock.call_later(left if left > 0 else self.options.poll_hold, lambda: self._watch_lost(runner))

    def _if_offline(self, runner: Runner) -> None:
        if runner.id in self.runners and not runner.online and not runner.busy:
            self.remove_runner(runner)

    def _if_idle(self, runner: Runner) -> None:
        if runner.id in self.runners and not runner.busy:
            self.remove_runner(runner)

    # --- scale sets ---

    def add_set(self, scope: str, name: str, group_id: int, labels: Iterable[tuple[str, str]], **more: Any) -> ScaleSet:
        now = self.clock.now()
        one = ScaleSet(next(self.ids), name, group_id, tuple(labels), scope, now, more.get("setting") or {}, now)
        self.sets[one.id] = one
        self._watch_idle(one)
        self.assignment.place_unmatched()
        return one

    def remove_set(self, one: ScaleSet) -> None:
        self.sets.pop(one.id, None)
        self.end_session(one)
        self.assignment.leave(one)
        for runner in list(one.runners.values()):
            if not runner.busy:
                self.remove_runner(runner)
        self.notify()

    def open_session(self, one: ScaleSet, owner: str) -> Session:
        one.session = Session(str(uuid.uuid4()), owner, one, self.clock.now())
        one.seen_at = self.clock.now()
        return one.session

    def active_session(self, one: ScaleSet) -> Session | None:
        """The set's session, unless it has stopped polling for too long."""
        session, idle = one.session, self.options.session_idle
        if session and not session.polls and idle is not None and self.clock.now() - session.seen_at > idle:
            self.end_session(one)
        return one.session

    def end_session(self, one: ScaleSet) -> None:
        """No more jobs are assigned until the next session polls; polls that wait end."""
        one.session, one.capacity = None, 0
        for waiter in one.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.notify()

    def _watch_idle(self, one: ScaleSet) -> None:
        """Remove the set when no listener has come for a week; a running job puts that off."""
        if one.id not in self.sets:
            return
        left = one.seen_at + self.options.idle_set - self.clock.now()
        polling = one.session is not None and one.session.polls > 0
        if left <= 0 and not one.running and not polling:
            self.remove_set(one)
            return
        self.clock.call_later(left if left > 0 else 3_600, lambda: self._watch_idle(one))
