"""How a Prometheus in the cluster finds the daemon and the gateways: by the labels of their rendered pods. Pure."""

from __future__ import annotations

from typing import Any, Final

_META: Final = "__meta_kubernetes_pod"
_NAMESPACE: Final = "__meta_kubernetes_namespace"
METRICS_PORTS: Final = {"daemon": "http", "gateway": "probes"}
"""Component to the name of the port that answers `/metrics`."""
INTERVAL: Final = "15s"


def scrape_configs() -> dict[str, Any]:
    """A document for `scrape_config_files`. The alerts need nothing but the names of the metrics, and the label `job`.

    The namespace of the Prometheus needs the label `orchestrator.dev/api-client: "true"`, or NetworkPolicies keep it
    out.
    """
    return {"scrape_configs": [_config(component, port) for component, port in METRICS_PORTS.items()]}


def job_name(component: str) -> str:
    """Of daemon or gateway, in the label `job` after its namespace."""
    return f"orchestrator-{component}" if component != "daemon" else "orchestrator"


def _config(component: str, port: str) -> dict[str, Any]:
    """The label `job` has the namespace too: several installations in a cluster are told apart by it."""
    name = job_name(component)
    return {
        "job_name": name,
        "scrape_interval": INTERVAL,
        "kubernetes_sd_configs": [{"role": "pod"}],
        "relabel_configs": [
            _keep("label_app_kubernetes_io_name", "orchestrator"),
            _keep("label_app_kubernetes_io_component", component),
            _keep("container_port_name", port),
            {"source_labels": [_NAMESPACE], "target_label": "namespace"},
            {"source_labels": [_NAMESPACE], "target_label": "job", "replacement": f"$1/{name}"},
            {"source_labels": [f"{_META}_name"], "target_label": "pod_name"},
        ],
    }


def _keep(label: str, value: str) -> dict[str, Any]:
    return {"source_labels": [f"{_META}_{label}"], "regex": value, "action": "keep"}
