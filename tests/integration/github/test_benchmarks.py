"""The benchmarks of GitHub Actions in small: they run, and what they judge and count holds there too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "github"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def figures(folder: Path, name: str, *arguments: int) -> dict:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "build" / "bench" / f"github_{name}.json").read_text())


@pytest.mark.sandbox
def test_a_burst_in_sandboxes(tmp_path):
    """The benchmark itself ends with an error when a job is lost or ran twice."""
    found = figures(tmp_path, "burst", 30, 6)
    assert found["runners_per_job"]["ours"] == 1
    assert found["service_calls_per_job"]["ours"] <= 4
    assert found["jobs_per_second"]["ours"] > 0


def test_idle_sets(tmp_path):
    found = figures(tmp_path, "idle", 1)
    for sets in (1, 20):
        assert 1 <= found[f"service_calls_per_set_and_hour_{sets}"]["ratio"] <= 1.1
        assert found[f"rest_calls_per_hour_{sets}"]["ours"] <= 4
