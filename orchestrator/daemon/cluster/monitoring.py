"""What a Prometheus operator reads: who is scraped, and the alerts. Pure.

The fields are those of `monitoring.coreos.com/v1` (API reference of prometheus-operator).
"""

from __future__ import annotations

from typing import Any, Final

from orchestrator.backends.kubernetes.render.installation import (
    DAEMON,
    GATEWAY,
    Document,
    component_labels,
    document,
)
from orchestrator.settings import Settings
from orchestrator.telemetry.monitoring.rules import RUNBOOKS, rules
from orchestrator.telemetry.monitoring.scraping import INTERVAL, METRICS_PORTS, job_name

API_VERSION: Final = "monitoring.coreos.com/v1"

_HIDES_OURS: Final = "endpoint"
"""A label that the operator gives each target, the port's name. Metrics of ours have one of that name, which would
become `exported_endpoint`: no alert and no panel would find it."""


def monitoring_documents(settings: Settings, labels: dict[str, str]) -> list[Document]:
    """A PodMonitor for each component and a PrometheusRule; none where the settings do not ask for them. `labels` are
    what all documents of the installation carry.

    A PodMonitor's namespace and name are the label `job` of its targets: the same as `orchestrator monitoring scrape`
    gives them.
    """
    given = settings.kubernetes
    asked = given.prometheus_operator
    if not asked.enabled:
        return []
    marks = asked.labels | labels
    spaces = {DAEMON: given.namespace, GATEWAY: given.gateway.namespace}
    monitors = [
        document(
            API_VERSION,
            "PodMonitor",
            job_name(component),
            marks,
            space,
            spec={
                "selector": {"matchLabels": component_labels(given.installation, component)},
                "podMetricsEndpoints": [_endpoint(METRICS_PORTS[component])],
            },
        )
        for component, space in spaces.items()
    ]
    alerts = document(
        API_VERSION,
        "PrometheusRule",
        job_name(DAEMON),
        marks,
        given.namespace,
        spec=rules(asked.runbooks or RUNBOOKS),
    )
    return [*monitors, alerts]


def _endpoint(port: str) -> dict[str, Any]:
    return {
        "port": port,
        "path": "/metrics",
        "interval": INTERVAL,
        "relabelings": [{"action": "labeldrop", "regex": _HIDES_OURS}],
    }
