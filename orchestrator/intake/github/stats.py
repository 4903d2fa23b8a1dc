"""How often GitHub was called and how much of its limits is left: for metrics, the status page and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.intake.github.rest.objects import RateLimit

MAX_RESOURCES: Final = 64
"""Kinds of limits that are told apart; GitHub has about a dozen, and each is a label of metrics."""


@dataclass(frozen=True, slots=True)
class EndpointCount:
    """`calls` counts every request sent, retries included; `failures` those without a 2xx; `seconds` their time;
    `by_class` counts answers by `2xx`, `4xx`, …, and `none` for no answer."""

    calls: int = 0
    failures: int = 0
    retries: int = 0
    seconds: float = 0.0
    last_status: int = 0
    by_class: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stats:
    """A picture at one moment, by endpoint word and by rate-limit resource."""

    endpoints: Mapping[str, EndpointCount] = field(default_factory=dict)
    limits: Mapping[str, RateLimit] = field(default_factory=dict)

    @property
    def calls(self) -> int:
        return sum(count.calls for count in self.endpoints.values())


class CallStats:
    """What the transport counts."""

    def __init__(self) -> None:
        self._endpoints: dict[str, EndpointCount] = {}
        self._limits: dict[str, RateLimit] = {}

    def sent(self, endpoint: str, status: int, seconds: float) -> None:
        """A request ended; `status` 0 means without an answer."""
        was = self._endpoints.get(endpoint, EndpointCount())
        failed = 0 if 200 <= status < 300 else 1
        kind = f"{status // 100}xx" if status else "none"
        self._endpoints[endpoint] = replace(
            was,
            calls=was.calls + 1,
            failures=was.failures + failed,
            seconds=was.seconds + seconds,
            last_status=status,
            by_class={**was.by_class, kind: was.by_class.get(kind, 0) + 1},
        )

    def retried(self, endpoint: str) -> None:
        was = self._endpoints.get(endpoint, EndpointCount())
        self._endpoints[endpoint] = replace(was, retries=was.retries + 1)

    def limit(self, found: RateLimit) -> None:
        if found.resource in self._limits or len(self._limits) < MAX_RESOURCES:
            self._limits[found.resource] = found

    def picture(self) -> Stats:
        return Stats(dict(self._endpoints), dict(self._limits))
