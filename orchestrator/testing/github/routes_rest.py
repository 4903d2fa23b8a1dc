"""The REST API's runs, jobs, branches, runners and rate limits."""

from __future__ import annotations

from typing import Any

from orchestrator.testing.github.access import RateLimits, repository_of, require, scope_of
from orchestrator.testing.github.documents import (
    job_document,
    repository_document,
    run_document,
    run_status,
    runner_document,
)
from orchestrator.testing.github.model import Job, Repository, Run, Runner
from orchestrator.testing.github.routes_auth import REST_KINDS, RUNNER_SCOPES
from orchestrator.testing.github.routes_service import jit_blob
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Handler, Plane, Reply

_REPO = "/repos/{owner}/{repo}"
_RUNS = _REPO + "/actions/runs"
META = {"verifiable_password_authentication": False, "hooks": ["127.0.0.0/8", "::1/128"], "actions": []}


class RestRoutes:
    """`url` begins the addresses in documents, `runner_url` is where runner programs reach this server."""

    def __init__(self, state: GitHubState, limits: RateLimits) -> None:
        self._state = state
        self._limits = limits
        self.url = ""
        self.runner_url = ""

    def endpoints(self) -> list[Endpoint]:
        table: list[tuple[str, str, Handler]] = [
            ("GET", _REPO, self._repository),
            ("GET", _REPO + "/branches/{branch}", self._branch),
            ("GET", _REPO + "/git/ref/{ref}", self._ref),
            ("GET", _RUNS, self._runs),
            ("GET", _RUNS + "/{id}", self._run),
            ("GET", _RUNS + "/{id}/attempts/{attempt}", self._run),
            ("GET", _RUNS + "/{id}/jobs", self._jobs),
            ("GET", _RUNS + "/{id}/attempts/{attempt}/jobs", self._jobs),
            ("POST", _RUNS + "/{id}/cancel", self._cancel),
            ("POST", _RUNS + "/{id}/rerun", self._rerun),
            ("GET", _REPO + "/actions/jobs/{id}", self._job),
        ]
        found = [Endpoint(method, path, handler, Plane.REST, REST_KINDS) for method, path, handler in table]
        found.append(Endpoint("GET", "/meta", self._meta, Plane.REST, bucket=""))
        found.append(Endpoint("GET", "/rate_limit", self._rate_limit, Plane.REST, REST_KINDS, bucket=""))
        for scope in RUNNER_SCOPES:
            path = scope + "/actions/runners"
            found += [
                Endpoint("GET", path, self._runners, Plane.REST, REST_KINDS),
                Endpoint("GET", path + "/{id}", self._runner, Plane.REST, REST_KINDS),
                Endpoint("DELETE", path + "/{id}", self._remove, Plane.REST, REST_KINDS),
                Endpoint(
                    "POST",
                    path + "/generate-jitconfig",
                    self._generate,
                    Plane.REST,
                    REST_KINDS,
                    bucket="actions_runner_registration",
                ),
            ]
        return found

    async def _meta(self, call: Call) -> Reply:
        return Reply(200, META)

    async def _rate_limit(self, call: Call) -> Reply:
        token = call.request.headers.get("Authorization", "").partition(" ")[2]
        if not (resources := self._limits.report(token)):
            raise ApiError(404, "Rate limiting is not enabled.")
        return Reply(200, {"resources": resources, "rate": resources["core"]})

    # --- runs and jobs ---

    async def _repository(self, call: Call) -> Reply:
        moved = self._state.moved.get(f"{call.place['owner']}/{call.place['repo']}".lower())
        if moved is not None:
            url = f"{self.url}/api/v3/repositories/{moved.id}"
            return Reply(301, {"message": "Moved Permanently", "url": url}, {"Location": url})
        return Reply(200, repository_document(repository_of(call, self._state), self.url))

    async def _branch(self, call: Call) -> Reply:
        repository = repository_of(call, self._state)
        require(call, "contents:read")
        name = call.place["branch"]
        if name not in repository.branches:
            raise ApiError(404, "Branch not found")
        tip = repository.history.heads.get(name) or self._tip(repository, f"refs/heads/{name}")
        return Reply(200, {"name": name, "protected": repository.branches[name], "commit": {"sha": tip or "0" * 40}})

    async def _ref(self, call: Call) -> Reply:
        """A tag that some run was of; `ref` is the name below `refs/`, quoted."""
        repository = repository_of(call, self._state)
        require(call, "contents:read")
        ref = f"refs/{call.place['ref']}"
        tip = self._tip(repository, ref) if ref.startswith("refs/tags/") else ""
        if not tip:
            raise ApiError(404, "Not Found")
        return Reply(200, {"ref": ref, "object": {"type": "commit", "sha": tip}})

    def _tip(self, repository: Repository, ref: str) -> str:
        """The commit of the newest run of a ref; there are no others here."""
        runs = (run for run in reversed(self._state.runs.values()) if run.repository is repository and run.ref == ref)
        return next((run.sha for run in runs), "")

    async def _runs(self, call: Call) -> Reply:
        repository = repository_of(call, self._state)
        require(call, "actions:read")
        wanted = call.query("status")
        runs = [run for run in self._state.runs.values() if run.repository is repository]
        runs = [run for run in reversed(runs) if wanted in ("", run_status(run))]
        return _page(call, "workflow_runs", [run_document(run, self.url) for run in runs])

    async def _run(self, call: Call) -> Reply:
        run, attempt = self._find_run(call), 0
        if "attempt" in call.place:
            attempt = call.number("attempt")
            if not 1 <= attempt <= run.attempt:
                raise ApiError(404, "Not Found")
        return Reply(200, run_document(run, self.url, attempt))

    async def _jobs(self, call: Call) -> Reply:
        run = self._find_run(call)
        found: list[Job] = list(run.jobs)
        if "attempt" in call.place:
            found = [job for job in run.earlier + run.jobs if job.attempt == call.number("attempt")]
        elif call.query("filter") == "all":
            found = run.earlier + run.jobs
        return _page(call, "jobs", [job_document(job, self.url) for job in found])

    async def _job(self, call: Call) -> Reply:
        repository = repository_of(call, self._state)
        require(call, "actions:read")
        job = self._state.jobs.get(call.number("id"))
        if job is None or job.run.repository is not repository:
            raise ApiError(404, "Not Found")
        return Reply(200, job_document(job, self.url))

    async def _cancel(self, call: Call) -> Reply:
        run = self._find_run(call, "actions:write")
        if run.done:
            raise ApiError(409, "Cannot cancel a workflow run that is completed.")
        self._state.cancel(run)
        return Reply(202, {})

    async def _rerun(self, call: Call) -> Reply:
        run = self._find_run(call, "actions:write")
        if not run.done:
            raise ApiError(403, "This workflow is already running")
        self._state.rerun(run)
        return Reply(201, {})

    def _find_run(self, call: Call, permission: str = "actions:read") -> Run:
        repository = repository_of(call, self._state)
        require(call, permission)
        run = self._state.runs.get(call.number("id"))
        if run is None or run.repository is not repository:
            raise ApiError(404, "Not Found")
        return run

    # --- runners ---

    async def _runners(self, call: Call) -> Reply:
        scope, name = scope_of(call, self._state, "read"), call.query("name")
        found = [one for one in self._state.runners.values() if one.scope == scope and name in ("", one.name)]
        return _page(call, "runners", [runner_document(runner) for runner in found])

    async def _runner(self, call: Call) -> Reply:
        return Reply(200, runner_document(self._find_runner(call, "read")))

    async def _remove(self, call: Call) -> Reply:
        runner = self._find_runner(call, "write")
        if runner.busy:
            raise ApiError(422, f"Runner {runner.name} is currently running a job and cannot be deleted.")
        self._state.remove_runner(runner)
        return Reply(204)

    async def _generate(self, call: Call) -> Reply:
        scope, wanted = scope_of(call, self._state, "write"), call.json()
        name, labels, group = _asked(wanted)
        if group not in self._state.groups:
            raise ApiError(404, "Not Found")
        if self._state.runner_named(scope, name) is not None:
            raise ApiError(409, f"Already exists - A runner with the name {name} already exists.")
        folder = str(wanted.get("work_folder") or "_work")
        runner = self._state.register(scope, name, labels=labels, group_id=group, work_folder=folder, one=None)
        answer = {"runner": runner_document(runner), "encoded_jit_config": jit_blob(runner, self.runner_url)}
        return Reply(201, answer)

    def _find_runner(self, call: Call, level: str) -> Runner:
        scope = scope_of(call, self._state, level)
        runner = self._state.runners.get(call.number("id"))
        if runner is None or runner.scope != scope:
            raise ApiError(404, "Not Found")
        return runner


def _asked(wanted: Any) -> tuple[str, list[str], int]:
    """Name, labels and group of a runner to be; 422 when one is missing or out of bounds."""
    if isinstance(wanted, dict):
        name, labels, group = wanted.get("name"), wanted.get("labels"), wanted.get("runner_group_id")
        if isinstance(name, str) and name and isinstance(group, int) and isinstance(labels, list):
            words = [label for label in labels if isinstance(label, str) and label]
            if 1 <= len(words) <= 100 and len(words) == len(labels):
                return name, words, group
    raise ApiError(422, "Invalid request. name, runner_group_id and 1 to 100 labels are required.")


def _page(call: Call, name: str, values: list[Any]) -> Reply:
    """One page of a list, and where the others are (RFC 8288)."""
    size = min(100, int(call.query("per_page") or 30))
    page = max(1, int(call.query("page") or 1))
    last = max(1, -(-len(values) // size))
    links = []
    for rel, number in (("prev", page - 1), ("next", page + 1), ("first", 1), ("last", last)):
        if 1 <= number <= last and number != page:
            url = call.request.url.update_query(page=number, per_page=size)
            links.append(f'<{url}>; rel="{rel}"')
    headers = {"Link": ", ".join(links)} if links else {}
    chosen = values[(page - 1) * size : page * size]
    return Reply(200, {"total_count": len(values), name: chosen}, headers)
