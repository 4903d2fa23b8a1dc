"""The agent's own small parsers and its table of variables; its behaviour is tested in real sandboxes."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.agent
from orchestrator.agent import main as agent

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
WORK = {
    "job": {"id": "dispatch.x.1", "script": "true", "environment": {}},
    "traceparent": "00-1-2-01",
    "proxy_url": "http://127.0.0.1:3128",
    "exchange_url": "e",
    "artifacts_url": "a",
    "token_file": "/t",
    "otlp_endpoint": "",
}


@given(values)
def test_json_is_read_as_the_standard_library_reads_it(value):
    assert agent.loads(json.dumps(value).encode()) == value
    assert (
        agent.loads(b" \r\n" + json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n") == value
    )


@given(st.binary(max_size=200))
def test_bytes_that_are_no_json_are_refused_and_never_crash_otherwise(data):
    try:
        expected = json.loads(data.decode("utf-8"))
    except ValueError:
        with pytest.raises((ValueError, StopIteration)):
            agent.loads(data)
    else:
        assert repr(agent.loads(data)) == repr(expected)


@given(st.text())
def test_probe_names_are_quoted_as_json(text):
    assert json.loads(agent.quoted(text)) == text


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12", (200, 12)),
        (b"HTTP/1.0 409 Conflict\r\nX: y\r\ncontent-length:  0", (409, 0)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1", None),
        (b"HTTP/2 200\r\nContent-Length: 1", None),
        (b"", None),
        (b"\xff\xff", None),
    ],
)
def test_response_heads(head, wanted):
    if wanted is None:
        with pytest.raises(ValueError):
            agent.response_head(head)
    else:
        assert agent.response_head(head) == wanted


@given(st.binary(max_size=300))
def test_any_response_head_is_read_or_refused(head):
    try:
        status, length = agent.response_head(head)
    except ValueError:
        return
    assert 0 <= status <= 999
    assert length >= 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"reason": "job_ended"}', "job_ended"),
        (b'{"title": "Gone"}', "Gone"),
        (b"[]", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_reasons_of_refusals(body, reason):
    assert agent.reason_of(body) == reason


def test_the_jobs_own_variables_cannot_replace_its_identity():
    stolen = {"ORCHESTRATOR_JOB_ID": "other", "TRACEPARENT": "00-9-9-00", "PATH": "/mine", "OTEL_SERVICE_NAME": "x"}
    variables = agent.environment({**WORK, "job": {**WORK["job"], "environment": stolen}})
    assert variables["ORCHESTRATOR_JOB_ID"] == "dispatch.x.1"
    assert variables["TRACEPARENT"] == "00-1-2-01"
    assert variables["PATH"] == "/mine"
    assert variables["OTEL_SERVICE_NAME"] == "x"


def test_nothing_of_the_agents_own_environment_is_handed_on(monkeypatch):
    for name in ("OTEL_RESOURCE_ATTRIBUTES", "BAGGAGE", "SECRET"):
        monkeypatch.setenv(name, "x")
    variables = agent.environment(WORK)
    assert not {"OTEL_RESOURCE_ATTRIBUTES", "BAGGAGE", "SECRET"} & set(variables)
    assert "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" not in variables


def test_traces_go_to_the_relay_when_there_is_one():
    variables = agent.environment({**WORK, "otlp_endpoint": "http://127.0.0.1:3129/runner"})
    assert variables["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "http://127.0.0.1:3129/runner/v1/traces"
    assert variables["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert variables["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert variables["OTEL_TRACES_EXPORTER"] == "otlp"
    assert variables["OTEL_METRICS_EXPORTER"] == variables["OTEL_LOGS_EXPORTER"] == "none"
    assert variables["OTEL_SERVICE_NAME"] == WORK["job"].get("name", "job")


@pytest.mark.parametrize("name", ["main.py", "artifact.py"])
def test_each_file_stands_alone(name):
    """One file each goes into the sandbox: only the standard library may be imported."""
    source = (Path(orchestrator.agent.__file__).parent / name).read_text()
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported <= set(sys.stdlib_module_names)


def test_the_commands_modules_stand_alone():
    """They are delivered as one folder: relative imports among themselves, else the standard library."""
    folder = Path(orchestrator.agent.__file__).parent / "tokens"
    own = {path.stem for path in folder.glob("*.py")}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= set(sys.stdlib_module_names), path
            elif isinstance(node, ast.ImportFrom) and node.level:
                assert {node.module} <= own if node.module else {alias.name for alias in node.names} <= own, path
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in sys.stdlib_module_names, path


def test_the_agent_imports_nothing_slow():
    """`json`, `socket`, `signal` or `typing` would each add a third to its start-up or more."""
    source = (Path(orchestrator.agent.__file__).parent / "main.py").read_text()
    tree = ast.parse(source)
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert names <= {"__future__", "_ctypes", "_json", "_signal", "_socket", "os", "resource", "sys", "time"}
