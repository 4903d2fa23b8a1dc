"""One operation of the public API: what is served and what is documented are both read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from orchestrator.server import schemas
from orchestrator.server.page.roles import Role

JSON = "application/json"
TEXT = "text/plain"
PEM = "application/x-pem-file"
SSE = "text/event-stream"
HTML = "text/html"


@dataclass(frozen=True, slots=True)
class Answer:
    """A success answer: what it means, and the model or media type of its body."""

    description: str
    model: type[BaseModel] | None = None
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one path. `problems` are the error statuses besides those every operation of its kind has;
    with `people` those who may sign are let in by their tokens too, besides callers. `page` is the role with which
    people are let in by the live page, None where they are not; `private` marks what those who show no name may see
    on this machine only: what jobs have printed, and whom approvals name."""

    id: str
    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    protected: bool = True
    body: type[BaseModel] | None = None
    form: bool = False
    query: type[BaseModel] = schemas.NoQuery
    problems: tuple[int, ...] = ()
    dispatch: bool = False
    webhook: bool = False
    stream: bool = False
    people: bool = False
    page: Role | None = None
    private: bool = False

    @property
    def takes_nothing(self) -> bool:
        """Whether a request may bring content, but there is none that would mean anything."""
        return self.method != "GET" and self.body is None and not (self.form or self.webhook)
