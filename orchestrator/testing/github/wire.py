"""Calls and answers between HTTP and the platform: a table of endpoints, who may call them, how errors read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from orchestrator.testing.github.tokens import Grant, Kind


class Plane(Enum):
    """Which of the platform's hosts an endpoint belongs to: they differ in errors and headers."""

    REST = auto()
    SERVICE = auto()
    QUEUE = auto()
    OTHER = auto()


@dataclass(slots=True)
class Call:
    """One request. `place` holds the parts of its path, decoded."""

    request: web.Request
    place: Mapping[str, str]
    grant: Grant | None
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ApiError: 400, it is none.
        """
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise ApiError(400, "Problems parsing JSON", "System.ArgumentException") from error

    def query(self, name: str) -> str:
        return self.request.query.get(name, "")

    def number(self, name: str) -> int:
        """A part of the path that is an id; what is none names nothing."""
        text = self.place[name]
        if not text.isascii() or not text.isdigit():
            raise ApiError(404, "Not Found", "System.ArgumentException")
        return int(text)


@dataclass(slots=True)
class Reply:
    """`body` is anything JSON can say, sent as JSON unless it is a text; None is no body at all."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class ApiError(Exception):
    """A refusal. `type_name` is the .NET type that the Actions service names."""

    def __init__(self, status: int, message: str, type_name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type_name = type_name


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`name` is `METHOD /template`. `kinds` are the tokens that may call it; none: anybody.

    `bucket` is the rate limit it counts against, if any.
    """

    method: str
    template: str
    handler: Handler
    plane: Plane
    kinds: tuple[Kind, ...] = ()
    bucket: str = "core"

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"


class Router:
    """Finds endpoints by the segments of a path; words go before placeholders such as `{id}`."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._root: dict[str, Any] = {}
        for endpoint in endpoints:
            node = self._root
            for segment in _segments(endpoint.template):
                node = node.setdefault("{}" if segment.startswith("{") else segment, {})
            node[f"/{endpoint.method}"] = endpoint

    def find(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint and the parts of `path`, which is as it was sent, not decoded."""
        segments = [unquote(segment) for segment in _segments(path)]
        endpoint = self._search(self._root, segments, 0, method)
        if endpoint is None:
            return None
        names = _segments(endpoint.template)
        return endpoint, {
            name[1:-1]: segment for name, segment in zip(names, segments, strict=True) if name.startswith("{")
        }

    def _search(self, node: dict[str, Any], segments: list[str], at: int, method: str) -> Endpoint | None:
        if at == len(segments):
            found: Endpoint | None = node.get(f"/{method}")
            return found
        for key in (segments[at], "{}"):
            below = node.get(key)
            if isinstance(below, dict) and (found := self._search(below, segments, at + 1, method)) is not None:
                return found
        return None


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def service_error(error: ApiError) -> dict[str, Any]:
    """As the Actions service writes it."""
    name = error.type_name or "System.InvalidOperationException"
    return {
        "$id": "1",
        "innerException": None,
        "message": error.message,
        "typeName": f"{name}, {name.rpartition('.')[0]}",
        "typeKey": name.rpartition(".")[2],
        "errorCode": 0,
        "eventId": 3000,
    }


def rest_error(error: ApiError) -> dict[str, Any]:
    """As the REST API writes it."""
    return {
        "message": error.message,
        "documentation_url": "https://docs.github.com/rest",
        "status": str(error.status),
    }
