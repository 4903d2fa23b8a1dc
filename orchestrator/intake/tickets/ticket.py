"""A ticket, and how a tracker's JSON becomes one. Pure; every size is bounded."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from orchestrator.intake.tickets.errors import AnswerUnreadableError

MAX_ID: Final = 128
MAX_VALUE: Final = 200
"""Characters of a value in an answer; a longer one makes the answer unreadable, for a cut name is another's name."""
MAX_MEMBERS: Final = 50_000
"""Commas in an answer, about as many as it has members; reading so many holds up everybody else for 10 ms."""
_PLACE: Final = "{id}"
_SEGMENTS: Final = re.compile(r"[/\\]")
_UPWARD: Final = frozenset({".", ".."})
_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the tracker says of the ticket of this id. Without `exists` nothing else is known.

    `status` is the tracker's own word; `open` is whether it is one of those that mean that. `url` is for people.
    """

    id: str
    exists: bool
    open: bool = False
    status: str = ""
    project: str = ""
    type: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class TicketFields:
    """Where in the answer each is: names of members with dots between them; empty where the answer has none."""

    id: str
    status: str
    project: str
    type: str


@dataclass(frozen=True, slots=True)
class TicketForm:
    """What ids look like, where they are asked for, and what the answers mean. `url` and `page` hold `{id}` once."""

    url: str
    page: str
    pattern: re.Pattern[str]
    fields: TicketFields
    open_values: Collection[str]

    def is_id(self, text: str) -> bool:
        """Whether this could be a ticket's id at all; the tracker is asked for no other.

        Whatever the pattern says, none of its segments is `.` or `..`: no quoting keeps those from being gone up by.
        """
        if not 1 <= len(text) <= MAX_ID or not _UPWARD.isdisjoint(_SEGMENTS.split(text)):
            return False
        return self.pattern.fullmatch(text) is not None

    def address(self, ticket: str) -> str:
        """Where to ask. The id is one segment or one value, whatever is in it."""
        return self.url.replace(_PLACE, quote(ticket, safe=""))

    def shown(self, ticket: str) -> str:
        """The page for people."""
        return self.page.replace(_PLACE, quote(ticket, safe=""))

    def read(self, ticket: str, body: bytes) -> Ticket:
        """The ticket that was asked for.

        Raises:
            AnswerUnreadableError: the answer is none, is about another ticket, or does not say whether it is open.
        """
        if body.count(b",") > MAX_MEMBERS:
            raise AnswerUnreadableError(f"the answer has more than {MAX_MEMBERS} members")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise AnswerUnreadableError("the answer is not JSON") from None
        fields = self.fields
        told = _value(document, fields.id, "id")
        if fields.id and told != ticket:
            raise AnswerUnreadableError("the answer is about another ticket than the one that was asked for")
        status = _value(document, fields.status, "status")
        if not status:
            raise AnswerUnreadableError(f"the answer's {fields.status or 'status'} (fields.status) is not there")
        return Ticket(
            ticket,
            exists=True,
            open=status in self.open_values,
            status=status,
            project=_value(document, fields.project, "project"),
            type=_value(document, fields.type, "type"),
            url=self.shown(ticket),
        )


def _value(document: Any, path: str, name: str) -> str:
    """The text of a member; a number or a truth value as JSON writes it; empty where it is absent or null.

    Raises:
        AnswerUnreadableError: it is a list or an object, or too long.
    """
    found = document if path else None
    for part in path.split(".") if path else ():
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None:
        return ""
    text = json.dumps(found) if isinstance(found, int | bool) else found
    if not isinstance(text, str) or len(text) > MAX_VALUE or not _PLAIN.fullmatch(text):
        raise AnswerUnreadableError(f"the answer's {path} (fields.{name}) is no plain text of at most {MAX_VALUE}")
    return text
