"""The panels as a dashboard that Grafana imports (its JSON model, schema 39: Grafana 10.4 and newer). Pure."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from orchestrator.telemetry.monitoring.panel import Kind, Panel, Query, Row
from orchestrator.telemetry.monitoring.system_panels import ROWS

UID: Final = "ephemeral-runners"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS: Final = 24
_HEIGHTS: Final = {Kind.STAT: 4}
_HEIGHT: Final = 8
_MATCHERS: Final = {"$J": 'job=~"$job"', "$P": 'job=~"$job",pool=~"$pool"'}
_LETTERS: Final = "ABCDEFGH"


def dashboard() -> dict[str, Any]:
    """The document. Whoever imports it chooses the Prometheus; daemons and pools are variables."""
    ids = count(1)
    panels: list[dict[str, Any]] = []
    y = 0
    for row in ROWS:
        head, inner, y = _row(row, ids, y)
        panels.append(head | {"panels": inner if row.collapsed else []})
        if not row.collapsed:
            panels.extend(inner)
    return {
        "uid": UID,
        "title": "Ephemeral runners",
        "description": "Jobs and their single-use runners. Every metric: docs/reference/metrics.md.",
        "tags": ["ci", "orchestrator"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        _variable("job", "Daemon", "label_values(orchestrator_build_info, job)"),
        _variable("pool", "Pool", 'label_values(orchestrator_pool_capacity_runners{job=~"$job"}, pool)'),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _row(row: Row, ids: count[int], y: int) -> tuple[dict[str, Any], list[dict[str, Any]], int]:
    """The row's own panel, those in it, and where the next one begins."""
    head = {
        "id": next(ids),
        "type": "row",
        "title": row.title,
        "collapsed": row.collapsed,
        "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
    }
    made: list[dict[str, Any]] = []
    x, top, height = 0, y + 1, 0
    for panel in row.panels:
        high = _HEIGHTS.get(panel.kind, _HEIGHT)
        if x + panel.width > _COLUMNS:
            x, top, height = 0, top + height, 0
        made.append(_panel(panel, next(ids)) | {"gridPos": {"x": x, "y": top, "w": panel.width, "h": high}})
        x, height = x + panel.width, max(height, high)
    return head, made, y + 1 if row.collapsed else top + height


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    colours = [{"color": "green", "value": None}, *([{"color": "red", "value": 1}] if panel.alarming else [])]
    return {
        "id": number,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "targets": [_target(query, _LETTERS[index], panel.kind) for index, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": colours},
                **({"custom": _lines(panel)} if panel.kind is Kind.LINES else {}),
            },
            "overrides": [],
        },
        "options": _OPTIONS[panel.kind],
    }


def _lines(panel: Panel) -> dict[str, Any]:
    stacking = {"group": "A", "mode": "normal" if panel.stacked else "none"}
    return {"fillOpacity": 30 if panel.stacked else 5, "lineWidth": 1, "stacking": stacking, "showPoints": "never"}


def _target(query: Query, letter: str, kind: Kind) -> dict[str, Any]:
    expr = query.expr
    for short, matcher in _MATCHERS.items():
        expr = expr.replace(short, matcher)
    instant = kind in (Kind.STAT, Kind.TABLE)
    form = "heatmap" if kind is Kind.HEATMAP else "table" if kind is Kind.TABLE else "time_series"
    return {
        "refId": letter,
        "datasource": _SOURCE,
        "expr": expr,
        "legendFormat": query.legend or "__auto",
        "format": form,
        "instant": instant,
        "range": not instant,
    }


_OPTIONS: Final[dict[Kind, dict[str, Any]]] = {
    Kind.STAT: {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    },
    Kind.LINES: {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    Kind.HEATMAP: {
        "calculate": False,
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 32},
        "cellGap": 1,
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
        "rowsFrame": {"layout": "auto"},
        "exemplars": {"color": "orange"},
    },
    Kind.TABLE: {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
}
