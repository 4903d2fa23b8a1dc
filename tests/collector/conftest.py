"""A real collector and a real trace page. Not part of `make test`: they are large, and come from a registry first."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))
sys.path.insert(0, str(Path(__file__).parent))

from collector import browser, missing
from installation import Installation
from witness import Witness

FIX = "make build/collector/.ready where a package registry can be reached; the browser is Debian's package chromium"


def _lacking() -> list[str]:
    return [reason for reason in (missing(), "" if browser() else "there is no chromium") if reason]


def pytest_configure(config: pytest.Config) -> None:
    if _lacking() and os.environ.get("REQUIRE_COLLECTOR") == "1":
        raise pytest.UsageError(f"REQUIRE_COLLECTOR=1, but: {'; '.join(_lacking())}. Fix: {FIX}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for reason in _lacking():
        terminalreporter.section("NOT TESTED: traces in a collector and on a trace page", sep="!", red=True, bold=True)
        terminalreporter.line(f"{reason}\nfix: {FIX}")


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    async with Witness() as witness:
        yield witness


@pytest.fixture
async def here(tmp_path: Path, witness: Witness) -> AsyncIterator[Installation]:
    """An installation with no daemon yet; nothing of it may be left."""
    made = Installation(tmp_path / "installation", witness)
    yield made
    await made.close()
    assert await made.left() == []
