"""Settings of the cluster's gateway: their order, and that mistakes are told."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.settings.gateway import load_gateway_settings

FILE = "daemon_url: https://from.file\nca_file: /ca\ntoken_file: /token\nport: 1000\nmax_connections: 7\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("PORT", "DAEMON_URL", "NAMES", "PROT"):
        monkeypatch.delenv(f"EGRESS_GATEWAY_{name}", raising=False)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    return path


def test_flags_rank_above_variables_above_the_file(file, monkeypatch):
    monkeypatch.setenv("EGRESS_GATEWAY_PORT", "2000")
    monkeypatch.setenv("EGRESS_GATEWAY_DAEMON_URL", "https://from.variable")
    monkeypatch.setenv("EGRESS_GATEWAY_NAMES", '{"db.test": "10.0.0.7"}')
    found = load_gateway_settings(file, {"port": 3000, "daemon_url": None})
    assert (found.port, found.daemon_url, found.max_connections) == (3000, "https://from.variable", 7)
    assert found.names == {"db.test": "10.0.0.7"}
    assert found.probe_port == 8457


def test_flags_alone_will_do():
    found = load_gateway_settings(None, {"daemon_url": "https://d", "ca_file": "/ca", "token_file": "/t"})
    assert (found.host, found.port) == ("", 3128)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("prot: 1\n", "prot"), ("daemon_url: http://plain\n", "daemon_url"), ("daemon_url: https://x/\n", "daemon_url"),
        ("port: 99999\n", "port"), ("names: {UPPER: 10.0.0.1}\n", "names"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_named(file, more, named):
    key = more.partition(":")[0]
    kept = "".join(line + "\n" for line in FILE.splitlines() if not line.startswith(f"{key}:"))
    file.write_text(kept + more)
    with pytest.raises(ConfigurationError, match=named):
        load_gateway_settings(file)


def test_what_is_required_is_asked_for():
    with pytest.raises(ConfigurationError) as caught:
        load_gateway_settings()
    assert all(name in str(caught.value) for name in ("daemon_url", "ca_file", "token_file"))


def test_unknown_variables_are_mistakes(file, monkeypatch):
    monkeypatch.setenv("EGRESS_GATEWAY_PROT", "1")
    with pytest.raises(ConfigurationError, match="EGRESS_GATEWAY_PROT"):
        load_gateway_settings(file)
