"""Metrics as tests read them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from orchestrator.telemetry.metrics import Metrics
from orchestrator.testing.stories import T0


def metrics(now_ns: int = T0, **pools: int) -> Metrics:
    """A registry of a daemon with these pools, whose clock stands still."""
    return Metrics(pools or {"default": 4}, "1.2.3", now_ns=lambda: now_ns)


def scrape(registry: Metrics) -> dict[tuple[str, ...], float]:
    """Sample name, without our prefix, and label values (in the order of label names) to value."""
    _, body = registry.render()
    return {
        (
            sample.name.removeprefix("orchestrator_"),
            *(sample.labels[key] for key in sorted(sample.labels)),
        ): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
