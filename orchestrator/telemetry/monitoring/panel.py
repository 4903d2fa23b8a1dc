"""A panel of the dashboard, and how its queries are made.

In queries `$J` stands for the label matcher of the daemons looked at, `$P` for that with the pools looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Grafana's own words."""

    STAT = "stat"
    LINES = "timeseries"
    HEATMAP = "heatmap"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`unit` is Grafana's name of a unit; `width` is of 24. `alarming` colours anything above 0 red, `stacked` piles
    series up."""

    title: str
    description: str
    queries: Sequence[Query]
    kind: Kind = Kind.LINES
    unit: str = "short"
    width: int = 8
    alarming: bool = False
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


def rate(metric: str, by: str, matcher: str = "$P", extra: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{matcher}{extra}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", matcher: str = "$P") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, matcher)})"


def quantiles(metric: str, matcher: str = "$P") -> tuple[Query, ...]:
    return tuple(Query(quantile(share, metric, matcher=matcher), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))


def stat(title: str, description: str, expr: str, unit: str = "short", *, alarming: bool = False) -> Panel:
    return Panel(title, description, (Query(expr),), Kind.STAT, unit, width=4, alarming=alarming)


def heatmap(title: str, description: str, metric: str) -> Panel:
    query = Query(rate(f"{metric}_bucket", "le"), "{{le}}")
    return Panel(title, description, (query,), Kind.HEATMAP, "s", width=12)
