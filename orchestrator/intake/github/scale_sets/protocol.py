"""Requests to the Actions service and its message queue: method, URL, body, and what refusals mean. Pure.

Source: the Go clients `actions/scaleset` and Actions Runner Controller; the API has no other description.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from orchestrator.intake.github.errors import (
    BusyError,
    GitHubError,
    RunnerExistsError,
    ScaleSetGoneError,
    SessionConflictError,
    SessionGoneError,
    UnreadableAnswerError,
)

API_VERSION: Final = "6.0-preview"
_SETS: Final = "_apis/runtime/runnerscalesets"
_AGENTS: Final = "_apis/distributedtask/pools/0/agents"
_JSON: Final = "application/json"
MAX_ANSWER: Final = 4 << 20
MAX_LISTING: Final = 64 << 20
"""Bytes of a list of runners: 10,000 in a group are allowed."""


class Credential(StrEnum):
    """Whose token a request carries: each kind is good for its own endpoints alone."""

    APP = "app"
    ACCESS = "access"
    """Of an installation, or a personal one."""
    REGISTRATION = "registration"
    ADMIN = "admin"
    QUEUE = "queue"


class Repeat(StrEnum):
    """When a request may be sent again after a failure that passes."""

    FREELY = "freely"
    UNSENT = "unsent"
    """Only if it certainly had no effect."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Request:
    """All of a request but its token. `endpoint` is a stable word for metrics, the same for every scale set.

    `meanings` says what a bare status stands for in answer to this call, where it is not the usual thing.
    """

    endpoint: str
    method: str
    url: str
    credential: Credential
    repeat: Repeat = Repeat.FREELY
    accept: str = _JSON
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[int, type[GitHubError]] = field(default_factory=dict)
    fix: str = ""
    polls: bool = False
    limit: int = MAX_ANSWER


_SET_MEANINGS: Final = {404: ScaleSetGoneError}
_SESSION_MEANINGS: Final = {400: SessionGoneError, 404: SessionGoneError, 409: SessionConflictError}


def json_body(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def trusted_url(url: str, *, encrypted: bool) -> str:
    """An address that GitHub told us to send tokens to, if it is one, and not less protected than GitHub itself.

    Raises:
        UnreadableAnswerError
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in (("https",) if encrypted else ("https", "http"))
    except ValueError:
        usable = False
    if not usable:
        raise UnreadableAnswerError("GitHub told an address that cannot be used or is not protected by TLS")
    return url


def find_scale_set(base: str, group_id: int, name: str) -> Request:
    query = {"runnerGroupId": str(group_id), "name": name}
    return _service("find_scale_set", "GET", base, _SETS, query=query)


def get_scale_set(base: str, set_id: int) -> Request:
    return _service("get_scale_set", "GET", base, f"{_SETS}/{set_id}", meanings=_SET_MEANINGS)


def create_scale_set(base: str, group_id: int, name: str, labels: Iterable[str]) -> Request:
    body = _scale_set(group_id, name, labels)
    return _service("create_scale_set", "POST", base, _SETS, body=body, repeat=Repeat.UNSENT)


def update_scale_set(base: str, set_id: int, group_id: int, name: str, labels: Iterable[str]) -> Request:
    body = _scale_set(group_id, name, labels)
    return _service("update_scale_set", "PATCH", base, f"{_SETS}/{set_id}", body=body, meanings=_SET_MEANINGS)


def delete_scale_set(base: str, set_id: int) -> Request:
    return _service("delete_scale_set", "DELETE", base, f"{_SETS}/{set_id}", meanings=_SET_MEANINGS)


def find_group(base: str, name: str) -> Request:
    return _service("find_group", "GET", base, "_apis/runtime/runnergroups/", query={"groupName": name})


def create_session(base: str, set_id: int, owner: str) -> Request:
    return _service(
        "create_session",
        "POST",
        base,
        f"{_SETS}/{set_id}/sessions",
        body={"ownerName": owner},
        repeat=Repeat.UNSENT,
        meanings={404: ScaleSetGoneError, 409: SessionConflictError},
    )


def refresh_session(base: str, set_id: int, session_id: str) -> Request:
    path = f"{_SETS}/{set_id}/sessions/{quote(session_id, safe='')}"
    return _service("refresh_session", "PATCH", base, path, meanings=_SESSION_MEANINGS)


def delete_session(base: str, set_id: int, session_id: str) -> Request:
    path = f"{_SETS}/{set_id}/sessions/{quote(session_id, safe='')}"
    return _service("delete_session", "DELETE", base, path, meanings=_SESSION_MEANINGS)


def poll(queue_url: str, last_message_id: int, capacity: int) -> Request:
    """`capacity` and `last_message_id` must not be negative."""
    query = {"lastMessageId": str(last_message_id)} if last_message_id > 0 else {}
    return Request(
        endpoint="poll",
        method="GET",
        url=_joined(queue_url, "", query),
        credential=Credential.QUEUE,
        repeat=Repeat.NEVER,
        accept=f"{_JSON}; api-version={API_VERSION}",
        headers={"X-ScaleSetMaxCapacity": str(capacity)},
        meanings=_SESSION_MEANINGS,
        polls=True,
    )


def acknowledge(queue_url: str, message_id: int) -> Request:
    return Request(
        endpoint="acknowledge",
        method="DELETE",
        url=_joined(queue_url, str(message_id), {}),
        credential=Credential.QUEUE,
        accept=f"{_JSON}; api-version={API_VERSION}",
        headers={"Content-Type": _JSON},
        meanings={400: SessionGoneError, 409: SessionConflictError},
    )


def acquire_jobs(base: str, set_id: int, request_ids: list[int]) -> Request:
    path = f"{_SETS}/{set_id}/acquirejobs"
    return _service(
        "acquire_jobs", "POST", base, path, body=request_ids, credential=Credential.QUEUE, meanings=_SET_MEANINGS
    )


def acquirable_jobs(base: str, set_id: int) -> Request:
    return _service("acquirable_jobs", "GET", base, f"{_SETS}/{set_id}/acquirablejobs", meanings=_SET_MEANINGS)


def generate_jit(base: str, set_id: int, name: str, work_folder: str) -> Request:
    return _service(
        "generate_jit",
        "POST",
        base,
        f"{_SETS}/{set_id}/generatejitconfig",
        body={"name": name, "workFolder": work_folder},
        repeat=Repeat.UNSENT,
        meanings={404: ScaleSetGoneError, 409: RunnerExistsError},
    )


def runner_by_name(base: str, name: str) -> Request:
    return _service("runner_by_name", "GET", base, _AGENTS, query={"agentName": name})


def list_runners(base: str) -> Request:
    return _service("list_runners", "GET", base, _AGENTS, limit=MAX_LISTING)


def remove_runner(base: str, runner_id: int) -> Request:
    return _service("remove_runner", "DELETE", base, f"{_AGENTS}/{runner_id}", meanings={409: BusyError})


def _scale_set(group_id: int, name: str, labels: Iterable[str]) -> dict[str, Any]:
    # Self-update would replace programs of the runner's image with others that nobody has seen.
    return {
        "name": name,
        "runnerGroupId": group_id,
        "labels": [{"type": "System", "name": label} for label in labels],
        "RunnerSetting": {"disableUpdate": True},
    }


def _service(
    endpoint: str,
    method: str,
    base: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    credential: Credential = Credential.ADMIN,
    repeat: Repeat = Repeat.FREELY,
    meanings: Mapping[int, type[GitHubError]] | None = None,
    limit: int = MAX_ANSWER,
) -> Request:
    return Request(
        endpoint=endpoint,
        method=method,
        url=_joined(base, path, {**(query or {}), "api-version": API_VERSION}),
        credential=credential,
        repeat=repeat,
        body=None if body is None else json_body(body),
        headers={"Content-Type": _JSON},
        meanings=meanings or {},
        limit=limit,
    )


def _joined(base: str, path: str, query: Mapping[str, str]) -> str:
    """`path` (quoted already) under whatever path the base has, and `query` added to its own."""
    parts = urlsplit(base)
    joined = f"{parts.path.rstrip('/')}/{path}" if path else parts.path
    asked = "&".join(part for part in (parts.query, urlencode(query, quote_via=quote)) if part)
    return urlunsplit((parts.scheme, parts.netloc, joined, asked, ""))
