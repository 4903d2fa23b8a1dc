import pytest

from orchestrator.telemetry.resource import daemon_resource


def test_the_daemon_says_who_it_is_and_operators_may_add(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    ours = {"service.name": "orchestrator", "service.version": "1.0", "service.instance.id": "i-1"}
    assert daemon_resource("1.0", "i-1") == ours
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ci")
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.version=9,long=" + "x" * 999
    )
    got = daemon_resource("1.0", "i-1")
    assert got["service.name"] == "ci"
    assert got["service.version"] == "1.0"
    assert got["deployment.environment.name"] == "prod"
    assert len(got["long"]) == 256
