"""Ways in which the platform answers badly, when told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What becomes of a request. The `DONE_BUT_` ones and those after them are carried out all the same.

    `RATE_LIMITED` is 429 with Retry-After, `SECONDARY_LIMIT` 403 with Retry-After, `LIMIT_USED_UP` 403 with
    `x-ratelimit-remaining: 0` and a reset `seconds` ahead. `HANG` never answers, `RESET` cuts the connection after
    `seconds`; `TEXT` and `EMPTY` are a 500 whose body is no JSON, or nothing.
    """

    RATE_LIMITED = "rate_limited"
    SECONDARY_LIMIT = "secondary_limit"
    LIMIT_USED_UP = "limit_used_up"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    TEXT = "text"
    EMPTY = "empty"
    RESET = "reset"
    HANG = "hang"
    DELAY = "delay"
    DONE_BUT_500 = "done_but_500"
    DONE_BUT_RESET = "done_but_reset"
    TRUNCATED = "truncated"
    BOM = "bom"
    GARBAGE = "garbage"


AFTER = frozenset({Fault.DONE_BUT_500, Fault.DONE_BUT_RESET, Fault.TRUNCATED, Fault.BOM, Fault.GARBAGE})
"""Those that hit the answer, not the request."""


@dataclass(slots=True)
class Rule:
    """Hits the next `times` requests whose endpoint, `METHOD /template`, has `part` in it, after letting `skip` by.

    An empty answer to a poll (202) is no answer that `BOM`, `TRUNCATED` or `GARBAGE` could hit.
    """

    fault: Fault
    part: str = ""
    times: int = 1
    seconds: float = 1.0
    skip: int = 0

    def hits(self, endpoint: str) -> bool:
        if self.times <= 0 or self.part not in endpoint:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass(slots=True)
class Faults:
    """Switches stay until switched back; rules are used up.

    `zero_statistics` reports nothing but zeros. `empty_queue_url` leaves out where to poll. `unpropagated` lets the
    next so many runner registrations fail with 401 and 403 in turn. `drop_backlog` loses what does not fit into one
    message. `forget_messages` lets a new session begin without the messages that its forerunner did not delete.
    """

    zero_statistics: bool = False
    empty_queue_url: bool = False
    unpropagated: int = 0
    drop_backlog: bool = False
    forget_messages: bool = False
    rules: list[Rule] = field(default_factory=list)

    def add(self, fault: Fault, part: str = "", *, times: int = 1, seconds: float = 1.0, skip: int = 0) -> Rule:
        """Let this fault hit; returns its rule, whose `times` tells how often it still will."""
        rule = Rule(fault, part, times, seconds, skip)
        self.rules.append(rule)
        return rule

    def next(self, endpoint: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.hits(endpoint)), None)

    def clear(self) -> None:
        """All is well again."""
        self.rules.clear()
        self.zero_statistics = self.empty_queue_url = self.drop_backlog = self.forget_messages = False
        self.unpropagated = 0
