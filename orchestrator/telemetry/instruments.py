"""How this project makes metrics: one prefix, explicit buckets, and labels that only hold words of a bounded set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX: Final = "orchestrator"
OTHER: Final = "other"
MAX_WORDS: Final = 64
"""Most different values of one label; later ones count as `other`."""

PHASE_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600)
JOB_BUCKETS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600)
POLICY_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
HTTP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""What the semantic conventions advise for `http.server.request.duration`."""


class Instruments:
    """Makes metrics in one registry. `pools` are the configured ones with their capacity in runners, and may be set
    again; the label of any other is `other`."""

    def __init__(self, registry: CollectorRegistry, pools: Mapping[str, int]) -> None:
        self.registry = registry
        self.pools = dict(pools)
        self._words: dict[str, set[str]] = {}

    def pool(self, name: str) -> str:
        return name if name in self.pools else OTHER

    def word(self, label: str, word: str) -> str:
        """A word that others choose, as long as there are few of them for this label."""
        known = self._words.setdefault(label, set())
        if word not in known and len(known) >= MAX_WORDS:
            return OTHER
        known.add(word)
        return word[:64]

    def counter(
        self, name: str, documentation: str, labels: tuple[str, ...] = (), *, namespace: str = PREFIX
    ) -> Counter:
        return Counter(name, documentation, labels, namespace=namespace, registry=self.registry)

    def gauge(self, name: str, documentation: str, labels: tuple[str, ...] = (), *, namespace: str = PREFIX) -> Gauge:
        return Gauge(name, documentation, labels, namespace=namespace, registry=self.registry)

    def histogram(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        buckets: tuple[float, ...],
        *,
        namespace: str = PREFIX,
    ) -> Histogram:
        return Histogram(name, documentation, labels, namespace=namespace, buckets=buckets, registry=self.registry)


def seconds(start_ns: int, end_ns: int) -> float:
    """What lies between two moments in Unix nanoseconds; 0 where a clock was set back."""
    return max(end_ns - start_ns, 0) / 1e9


def exemplar(trace_id: str) -> dict[str, str] | None:
    """What leads from a bucket to a trace; None where it is not known which."""
    return {"trace_id": trace_id} if trace_id else None
