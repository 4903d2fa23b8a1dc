"""Where messages go, what goes there, and how each place is doing. Pure."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from orchestrator.model.source import Failure
from orchestrator.notifications.notices import Notice, NoticeType

Sign = Callable[[str, int, bytes], str]
"""The value of `webhook-signature` for a message's id, the attempt's Unix time and the body. Raises `TryAgainError`."""


class Format(StrEnum):
    """How a message looks: Standard Webhooks' own payload, or a CDEvent."""

    WEBHOOK = "webhook"
    CDEVENTS = "cdevents"


@dataclass(frozen=True, slots=True)
class Filter:
    """What an endpoint wants. `events` are types such as `job.ended`, or `job.*`; `pools` and `results` let all through
    when empty. `results` is asked of notices that tell a result only."""

    events: tuple[str, ...] = ("*",)
    pools: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()

    def wants(self, notice: Notice) -> bool:
        if not any(fnmatch.fnmatchcase(notice.type.value, pattern) for pattern in self.events):
            return False
        if self.pools and notice.job.pool not in self.pools:
            return False
        tells = notice.type in (NoticeType.JOB_ENDED, NoticeType.JOB_FINISHED)
        return not (tells and self.results) or notice.job.result in self.results


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One receiver. `private` lets its address be of this machine or of a private network; `sentences` puts the texts
    for people into its messages; `sign` is None where messages go unsigned."""

    name: str
    url: str = field(repr=False)
    format: Format
    filter: Filter
    sign: Sign | None = field(default=None, repr=False)
    sentences: bool = False
    private: bool = False
    timeout_seconds: float = 15.0

    @property
    def host(self) -> str:
        """Scheme, host and port: all of the address that may be shown, for the rest may be a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    @property
    def target(self) -> str:
        """Tells this address and format from another that the same name had before."""
        return hashlib.sha256(f"{self.format.value} {self.url}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How an endpoint is doing. Times are Unix nanoseconds, 0 for *not yet*; counts are since the daemon's start, but
    for `dropped_ever`. `failing` is what does not work now, `disabled` the reason why nothing is sent any more."""

    endpoint: Endpoint
    waiting: int
    waiting_bytes: int
    oldest_at_ns: int
    delivered: int
    failed: int
    dropped: int
    dropped_ever: int
    delivered_at_ns: int
    next_try_ns: int
    failing: Failure | None
    disabled: str
    disabled_at_ns: int
