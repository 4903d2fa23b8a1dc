"""`orchestrator monitoring`: what Prometheus and Grafana need to watch an installation."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = (
    "orchestrator monitoring rules --runbooks https://docs.example/how-to/sre-guide.md > orchestrator-rules.yaml",
    "orchestrator monitoring dashboard --output orchestrator-dashboard.json",
    "orchestrator monitoring scrape > orchestrator-scrape.yaml",
)


class Part(StrEnum):
    """What can be had."""

    RULES = "rules"
    DASHBOARD = "dashboard"
    SCRAPE = "scrape"


def monitoring(
    part: Annotated[Part, typer.Argument(help="Alert rules, the dashboard, or how to find daemon and gateways.")],
    runbooks: Annotated[
        str | None, typer.Option(help="Address of your copy of the SRE guide, for the links of the alerts.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write. Default: print it.")] = None,
) -> None:
    """Print alert rules and scrape configuration for Prometheus, or the dashboard for Grafana.

    `rules` is for `rule_files`, `scrape` for `scrape_config_files` of a Prometheus in the cluster, and `dashboard` is
    imported as JSON. Each alert and each row of the dashboard: docs/how-to/sre-guide.md. Equal versions give
    equal bytes.
    """
    from orchestrator.cli.exits import CommandError, UsageError

    if runbooks is not None and (part is not Part.RULES or not runbooks.startswith(("http://", "https://"))):
        raise UsageError(
            "--runbooks is an http or https address, and only rules have links",
            fix="orchestrator monitoring rules --runbooks https://docs.example/how-to/sre-guide.md",
        )
    text = text_of(part, runbooks)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"cannot write {output}: {error.strerror}", fix="check the path and its permissions"
        ) from None


def text_of(part: Part, runbooks: str | None = None) -> str:
    """What is printed."""
    from orchestrator.telemetry.monitoring.dashboard import dashboard
    from orchestrator.telemetry.monitoring.rules import RUNBOOKS, rules
    from orchestrator.telemetry.monitoring.scraping import scrape_configs

    match part:
        case Part.RULES:
            return _yaml(rules(runbooks or RUNBOOKS))
        case Part.SCRAPE:
            return _yaml(scrape_configs())
        case Part.DASHBOARD:
            import json

            return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


def _yaml(document: dict[str, Any]) -> str:
    import yaml

    header = "# Printed by `orchestrator monitoring`. Print it again after an upgrade; edits here are lost.\n"
    return header + yaml.safe_dump(document, sort_keys=False, width=4096)
