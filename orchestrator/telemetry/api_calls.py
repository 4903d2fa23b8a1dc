"""Metrics of requests to the cluster's API, from what its clients have counted when `/metrics` is scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.model.api import ApiCounts
from orchestrator.model.source import WaitCounts

_PREFIX: Final = "orchestrator_kubernetes"
_WHAT: Final = ("verb", "resource")

Read = Callable[[], Sequence[ApiCounts]]


class ApiCollector(Collector):
    """`read` gives the counts of each client; it must be quick and not raise."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        all_counts = self._read()
        text = "Requests to the Kubernetes API until the head of the answer, by class of answer; `none` without one."
        family = HistogramMetricFamily(f"{_PREFIX}_request_duration_seconds", text, labels=(*_WHAT, "status"))
        for labels, times in sorted(_times(all_counts).items()):
            bounds = [*(str(bound) for bound in times.bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(times.counts)), strict=True))
            family.add_metric(labels, buckets, times.seconds)
        yield family
        text = "Requests that did not get what was asked for, by why."
        yield _counter("request_failed", text, _sum(one.failures for one in all_counts))
        yield _counter("request_retry", "Requests sent again at once, by why.", _sum(one.retries for one in all_counts))


def errors_of(read: Read) -> Mapping[tuple[str, str], float]:
    """`cicd.system.errors` of the cluster's API: failures by reason, without answers that are no errors."""
    errors: Counter[tuple[str, str]] = Counter()
    for (_, _, reason), count in _sum(one.failures for one in read()).items():
        if reason not in NO_ERRORS:
            errors["kubernetes", reason] += count
    return errors


NO_ERRORS: Final = frozenset({"api_not_found", "api_conflict", "api_gone", "quota_exhausted"})
"""Answers that are part of the conversation: what is gone is gone, and who is second is told so."""


def _times(all_counts: Iterable[ApiCounts]) -> dict[tuple[str, str, str], WaitCounts]:
    found: dict[tuple[str, str, str], WaitCounts] = {}
    for counts in all_counts:
        for labels, times in counts.times().items():
            known = found.get(labels)
            both = [a + b for a, b in zip(known.counts, times.counts, strict=True)] if known else times.counts
            found[labels] = WaitCounts(times.bounds, tuple(both), times.seconds + (known.seconds if known else 0.0))
    return found


def _sum(parts: Iterable[Mapping[tuple[str, str, str], int]]) -> Counter[tuple[str, str, str]]:
    total: Counter[tuple[str, str, str]] = Counter()
    for part in parts:
        total.update(part)
    return total


def _counter(name: str, text: str, counts: Mapping[tuple[str, str, str], int]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=(*_WHAT, "reason"))
    for labels in sorted(counts):
        family.add_metric(labels, counts[labels])
    return family
