"""The four metrics for Prometheus, from the document that was last put together. A share of nothing has no sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from orchestrator.telemetry.scores.metrics import BUILDS, DEPLOYS, PARTS, TRACED

PREFIX: Final = "orchestrator"

Measured = Mapping[str, Mapping[str, Any]]


class ScoresCollector(Collector):
    """`read` gives the metrics by their names; it must be quick and not raise."""

    def __init__(self, read: Callable[[], Measured]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = self._read()
        yield from _secrets(found["secret_age"])
        yield from _permissions(found["permission_scope"])
        yield from _artifacts(found["artifact_traceability"])
        yield from _policy(found["policy_coverage"])


def _secrets(found: Mapping[str, Any]) -> Iterable[GaugeMetricFamily]:
    age = _family("secret_age_seconds", "Age of a registered secret's value.", "secret")
    limit = _family("secret_max_age_seconds", "Age from which a registered secret is overdue.", "secret")
    overdue = _family("secret_overdue", "1 for a registered secret that is overdue, or has no value.", "secret")
    failing = _family("secret_failing", "1 while a rotation or the removal of a secret fails.", "secret")
    idle = _family("secret_idle", "1 for a registered secret that nobody used for its idle time.", "secret")
    for one in found["each"]:
        name = [one["name"]]
        if one["age_seconds"] is not None:
            age.add_metric(name, one["age_seconds"])
        limit.add_metric(name, one["max_age_seconds"])
        for family, flag in ((overdue, "overdue"), (failing, "failing"), (idle, "idle")):
            family.add_metric(name, float(one[flag]))
    yield from (age, limit, overdue, failing, idle)


def _permissions(found: Mapping[str, Any]) -> Iterable[GaugeMetricFamily]:
    edges = _family("permission_edges", "Permissions of the trust map, and those used in the last 30 days.", "state")
    edges.add_metric(["granted"], found["edges_granted"])
    edges.add_metric(["used"], found["edges_used"])
    yield edges
    yield _single("permission_widest_edges", "Permissions of the identity that has most.", found["widest_edges"])


def _artifacts(found: Mapping[str, Any]) -> Iterable[GaugeMetricFamily]:
    counted = GaugeMetricFamily(
        f"{PREFIX}_artifacts", "Artifacts of the last 30 days, by what is verified about them.", labels=["what", "has"]
    )
    traced = _family("artifact_traced_ratio", "Share with signature, SBOM and provenance, of 1.", "what")
    for what in (DEPLOYS, BUILDS):
        counted.add_metric([what, "anything"], found[what])
        for part in (*PARTS, TRACED):
            counted.add_metric([what, part], found[f"{what}_{part}"])
        if found[f"{what}_traced_share"] is not None:
            traced.add_metric([what], found[f"{what}_traced_share"])
    yield from (counted, traced)


def _policy(found: Mapping[str, Any]) -> Iterable[GaugeMetricFamily]:
    covered = "Share of the decisions of the last 30 days that a rule was about, of 1."
    yield _single("policy_explicit_ratio", covered, found["explicit_share"])
    rules = _family("policy_rules", "Rules of all environments, by whether they are enforced or only watched.", "mode")
    if found["rules"] is not None:
        rules.add_metric(["enforce"], found["rules_enforced"])
        rules.add_metric(["observe"], found["rules"] - found["rules_enforced"])
    yield rules
    proven = _family("pool_provenance_ratio", "Share of the building jobs that have provenance, of 1.", "pool")
    for pool, one in found["pools"].items():
        if one["provenance_share"] is not None:
            proven.add_metric([pool], one["provenance_share"])
    yield proven


def _family(name: str, documentation: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=[label])


def _single(name: str, documentation: str, value: float | None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", documentation, labels=[])
    if value is not None:
        family.add_metric([], value)
    return family
