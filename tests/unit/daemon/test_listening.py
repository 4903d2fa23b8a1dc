"""A port that was taken by chance stays ours over restarts, as far as nobody else takes it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.daemon.listening import keep_port, listen
from orchestrator.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path, server={"port": 0})  # type: ignore[arg-type]


def test_the_next_start_has_the_same_port(settings: Settings):
    with listen(settings) as first:
        port = first.getsockname()[1]
        keep_port(settings.state_dir, port)
    assert stat.S_IMODE((settings.state_dir / "port").stat().st_mode) == 0o600
    for _ in range(3):
        with listen(settings) as again:
            assert again.getsockname()[1] == port


def test_a_port_that_somebody_took_is_let_go(settings: Settings, caplog: pytest.LogCaptureFixture):
    with listen(settings) as theirs:
        keep_port(settings.state_dir, theirs.getsockname()[1])
        with listen(settings) as ours:
            assert ours.getsockname()[1] != theirs.getsockname()[1]
    assert "is taken" in caplog.text


def test_a_configured_port_is_the_port(settings: Settings):
    with listen(settings) as free:
        port = free.getsockname()[1]
    keep_port(settings.state_dir, 1)
    with listen(settings.model_copy(update={"server": settings.server.model_copy(update={"port": port})})) as ours:
        assert ours.getsockname()[1] == port


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"0", b"70000", b"9" * 5000, b"\xff", "٣".encode()])
def test_what_is_no_port_is_not_taken_for_one(settings: Settings, text: bytes):
    (settings.state_dir / "port").write_bytes(text)
    with listen(settings) as ours:
        assert ours.getsockname()[1] > 0


def test_a_full_disk_keeps_nobody_from_starting(settings: Settings, caplog: pytest.LogCaptureFixture):
    keep_port(settings.state_dir / "nowhere", 1)
    assert "cannot be kept" in caplog.text
