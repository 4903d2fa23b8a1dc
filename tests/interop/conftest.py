"""Programs of others judge our tokens. Not part of `make test`: they come from package registries first."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "acceptance"))
sys.path.insert(0, str(Path(__file__).parent))

from interop import FIX, missing


def pytest_configure(config: pytest.Config) -> None:
    if missing() and os.environ.get("REQUIRE_INTEROP") == "1":
        raise pytest.UsageError(f"REQUIRE_INTEROP=1, but: {'; '.join(missing().values())}. Fix: {FIX}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, reason in missing().items():
        terminalreporter.section(f"NOT TESTED: what needs {name}", sep="!", red=True, bold=True)
        terminalreporter.line(f"{reason}\nfix: {FIX}")
