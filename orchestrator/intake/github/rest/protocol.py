"""Requests to GitHub's REST API and for its chain of tokens. Pure.

Source: GitHub REST API reference; the registration call is the one that `config.sh` makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from orchestrator.intake.github.connection import AppCredential, least_permissions
from orchestrator.intake.github.errors import (
    BusyError,
    GitHubError,
    RefusedError,
    RegistrationRefusedError,
    RunnerExistsError,
)
from orchestrator.intake.github.scale_sets.protocol import Credential, Repeat, Request, json_body
from orchestrator.intake.github.urls import GitHubUrl

PAGE: Final = 100
_ACCEPT: Final = "application/vnd.github+json"
_VERSION: Final = "2022-11-28"


def installation_token(url: GitHubUrl, credential: AppCredential) -> Request:
    """Narrowed to the repositories and permissions of the credential."""
    narrowed: dict[str, Any] = {"permissions": dict(credential.permissions or least_permissions(url.scope))}
    if credential.repositories:
        narrowed["repositories"] = list(credential.repositories)
    if credential.repository_ids:
        narrowed["repository_ids"] = list(credential.repository_ids)
    path = f"/app/installations/{quote(credential.installation_id, safe='')}/access_tokens"
    fix = "check the installation id, and that the App has the permissions and repositories that are asked for"
    return rest_request(url, "installation_token", "POST", path, body=narrowed, credential=Credential.APP, fix=fix)


def end_installation_token(url: GitHubUrl) -> Request:
    """Ends the very token that it is sent with."""
    return rest_request(url, "end_installation_token", "DELETE", "/installation/token")


def registration_token(url: GitHubUrl) -> Request:
    fix = "the App or token may not manage self-hosted runners here: see its permissions"
    return rest_request(
        url, "registration_token", "POST", f"{url.api_path}/actions/runners/registration-token", fix=fix
    )


def runner_registration(url: GitHubUrl) -> Request:
    """Asks for the Actions service's address and admin token. 401 and 403 pass: a fresh token is not known at once."""
    body = {"url": url.text, "runner_event": "register"}
    unknown_yet: Mapping[int, type[GitHubError]] = {401: RegistrationRefusedError, 403: RegistrationRefusedError}
    path = "/actions/runner-registration"
    return rest_request(
        url,
        "runner_registration",
        "POST",
        path,
        body=body,
        credential=Credential.REGISTRATION,
        accept="application/json",
        meanings=unknown_yet,
    )


def workflow_run(url: GitHubUrl, owner: str, repository: str, run_id: int) -> Request:
    return rest_request(url, "workflow_run", "GET", f"{repository_path(owner, repository)}/actions/runs/{run_id}")


def run_jobs(url: GitHubUrl, owner: str, repository: str, run_id: int, attempt: int | None, page: int) -> Request:
    path = f"{repository_path(owner, repository)}/actions/runs/{run_id}"
    path += f"/attempts/{attempt}/jobs" if attempt is not None else "/jobs"
    query = {"per_page": str(PAGE), "page": str(page)}
    if attempt is None:
        query["filter"] = "latest"
    return rest_request(url, "run_jobs", "GET", path, query=query)


def job(url: GitHubUrl, owner: str, repository: str, job_id: int) -> Request:
    return rest_request(url, "job", "GET", f"{repository_path(owner, repository)}/actions/jobs/{job_id}")


def branch(url: GitHubUrl, owner: str, repository: str, name: str) -> Request:
    return rest_request(url, "branch", "GET", f"{repository_path(owner, repository)}/branches/{path_segment(name)}")


def tag(url: GitHubUrl, owner: str, repository: str, name: str) -> Request:
    return rest_request(
        url, "tag", "GET", f"{repository_path(owner, repository)}/git/ref/tags%2F{quote(name, safe='')}"
    )


def runs(url: GitHubUrl, owner: str, repository: str, status: str, page: int) -> Request:
    query = {"status": status, "per_page": str(PAGE), "page": str(page)}
    return rest_request(url, "runs", "GET", f"{repository_path(owner, repository)}/actions/runs", query=query)


def list_runners(url: GitHubUrl, page: int) -> Request:
    query = {"per_page": str(PAGE), "page": str(page)}
    return rest_request(url, "rest_list_runners", "GET", f"{url.api_path}/actions/runners", query=query)


def runner_by_name(url: GitHubUrl, name: str) -> Request:
    query = {"name": name, "per_page": str(PAGE)}
    return rest_request(url, "rest_runner_by_name", "GET", f"{url.api_path}/actions/runners", query=query)


def remove_runner(url: GitHubUrl, runner_id: int) -> Request:
    path = f"{url.api_path}/actions/runners/{runner_id}"
    return rest_request(url, "rest_remove_runner", "DELETE", path, meanings={422: BusyError})


def generate_jitconfig(url: GitHubUrl, name: str, labels: Iterable[str], group_id: int, work_folder: str) -> Request:
    body = {"name": name, "runner_group_id": group_id, "labels": list(labels), "work_folder": work_folder}
    path = f"{url.api_path}/actions/runners/generate-jitconfig"
    return rest_request(
        url,
        "rest_generate_jit",
        "POST",
        path,
        body=body,
        repeat=Repeat.UNSENT,
        meanings={409: RunnerExistsError},
        fix="check the runner group, the labels (1 to 100), and the permission to manage self-hosted runners",
    )


def hook_deliveries(url: GitHubUrl, hook_id: int | None, cursor: str) -> Request:
    query = {"per_page": str(PAGE), **({"cursor": cursor} if cursor else {})}
    path = f"{_hook(url, hook_id)}/deliveries"
    return rest_request(url, "hook_deliveries", "GET", path, query=query, credential=_hook_owner(hook_id))


def redeliver(url: GitHubUrl, hook_id: int | None, delivery_id: int) -> Request:
    path = f"{_hook(url, hook_id)}/deliveries/{delivery_id}/attempts"
    return rest_request(url, "redeliver", "POST", path, credential=_hook_owner(hook_id))


def rate_limit(url: GitHubUrl) -> Request:
    return rest_request(url, "rate_limit", "GET", "/rate_limit")


def repository_path(owner: str, repository: str) -> str:
    """Raises: RefusedError, no repository can have such a name."""
    return f"/repos/{path_segment(owner)}/{path_segment(repository)}"


def path_segment(name: str) -> str:
    """One part of a path. Names come from jobs too; none may lead to another place of the API.

    Raises:
        RefusedError
    """
    if name in ("", ".", ".."):
        raise RefusedError("a name that nothing at GitHub can have was asked for")
    return quote(name, safe="")


def _hook(url: GitHubUrl, hook_id: int | None) -> str:
    return "/app/hook" if hook_id is None else f"{url.api_path}/hooks/{hook_id}"


def _hook_owner(hook_id: int | None) -> Credential:
    return Credential.APP if hook_id is None else Credential.ACCESS


def rest_request(
    url: GitHubUrl,
    endpoint: str,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    credential: Credential = Credential.ACCESS,
    repeat: Repeat = Repeat.FREELY,
    accept: str = _ACCEPT,
    meanings: Mapping[int, type[GitHubError]] | None = None,
    fix: str = "",
) -> Request:
    """A request of the REST API; `path` is below its base and quoted, `query` is not."""
    asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
    headers = {"X-GitHub-Api-Version": _VERSION}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return Request(
        endpoint=endpoint,
        method=method,
        url=f"{url.api_base}{path}{asked}",
        credential=credential,
        repeat=repeat,
        accept=accept,
        body=None if body is None else json_body(body),
        headers=headers,
        meanings=meanings or {},
        fix=fix,
    )
