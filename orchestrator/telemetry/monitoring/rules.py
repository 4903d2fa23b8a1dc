"""The alerts as a file of Prometheus rules. Pure."""

from __future__ import annotations

from typing import Any, Final

from orchestrator.telemetry.monitoring.alert import Alert
from orchestrator.telemetry.monitoring.system_alerts import GROUPS

RUNBOOKS: Final = "https://docs.example/how-to/sre-guide.md"
"""Where the guide is unless it is told: nowhere, but a link that says so."""


def anchor(alert: str) -> str:
    """Of an alert's section in the guide, as those who draw Markdown make it from the heading."""
    return alert.lower()


def rules(runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """A document for `rule_files`. `runbooks` is the address of the SRE guide."""
    return {
        "groups": [
            {"name": f"orchestrator-{name}", "rules": [_rule(alert, runbooks) for alert in alerts]}
            for name, alerts in GROUPS.items()
        ]
    }


def _rule(alert: Alert, runbooks: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({"for": alert.lasts} if alert.lasts != "0m" else {}),
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary,
            "description": alert.why,
            "runbook_url": f"{runbooks}#{anchor(alert.name)}",
        },
    }
