"""The webhook's match condition, evaluated by Google's CEL: what changes nothing that runs does not need the daemon."""

from __future__ import annotations

from typing import Any

import pytest
from cel_expr_python import cel

from orchestrator.backends.kubernetes.render.gate import Gate, gate_documents

_ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys(("object", "oldObject", "request"), cel.Type.DYN))
GATE = Gate("default", "orchestrator", ("shop",), "https://192.0.2.1:8458", "/review")
POD = {"metadata": {"name": "shop"}, "spec": {"containers": [{"name": "app", "image": "a"}]}}


def asked(operation: str, new: dict[str, Any], old: dict[str, Any] | None) -> bool:
    """Whether an API server would ask us."""
    (document,) = gate_documents(GATE)
    (condition,) = document["webhooks"][0]["matchConditions"]
    program = _ENVIRONMENT.compile(condition["expression"])
    found = program.eval(data={"object": new, "oldObject": old, "request": {"operation": operation}})
    assert found.type() == cel.Type.BOOL, found
    return bool(found.plain_value())


@pytest.mark.parametrize(
    ("operation", "new", "old", "is_asked"),
    [
        ("CREATE", POD, None, True),
        ("UPDATE", POD | {"metadata": {"name": "shop", "labels": {"a": "b"}}}, POD, False),
        ("UPDATE", POD | {"spec": {"containers": [{"name": "app", "image": "b"}]}}, POD, True),
        ("UPDATE", POD | {"spec": POD["spec"] | {"ephemeralContainers": [{"name": "x", "image": "c"}]}}, POD, True),
        ("UPDATE", {"template": {"spec": {}}}, {"template": {"spec": {}}}, True),
    ],
    ids=["made", "labels", "image", "ephemeral container", "no specification of its own"],
)
def test_what_the_api_server_asks_about(operation, new, old, is_asked):
    assert asked(operation, new, old) is is_asked
