"""Grafana's own types, generated from the program, read our dashboard: they know every field of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from interop import PYTHON, lost, needs

from orchestrator.telemetry.monitoring.dashboard import dashboard

pytestmark = needs("python")


def read_by_grafana(document: dict[str, Any]) -> dict[str, Any]:
    program = [PYTHON, Path(__file__).with_name("grafana_types.py")]
    done = subprocess.run(program, input=json.dumps(document), capture_output=True, text=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    assert list(lost(dashboard(), read_by_grafana(dashboard()))) == []


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("panels", 1), "gridpos"),
        (("panels", 1, "options", "reduceOptions"), "calc"),
        (("panels", 1, "targets", 0), "legend"),
        (("panels", 1, "fieldConfig", "defaults"), "units"),
        (("templating", "list", 1), "includeall"),
    ],
)
def test_a_field_that_grafana_does_not_know_is_found_out(where: tuple[str | int, ...], wrong: str) -> None:
    document: Any = json.loads(json.dumps(dashboard()))
    part = document
    for step in where:
        part = part[step]
    part[wrong] = "x"
    assert list(lost(document, read_by_grafana(document))) == [f"/{'/'.join(map(str, where))}/{wrong}"]
