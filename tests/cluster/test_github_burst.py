"""The benchmark of GitHub's jobs as pods, in small: none lost, none twice, two writes for each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "github" / "pods.py"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]


def test_a_burst_as_pods(tmp_path):
    """The API server counts what is left to do for other tests' pods as well."""
    command = [sys.executable, str(BENCHMARK), "30", "8"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "build" / "bench" / "github_pods.json").read_text())
    assert found["runners_per_job"]["ours"] == 1
    assert found["service_calls_per_job"]["ours"] <= 4
    assert 2 <= found["kubernetes_writes_per_job"]["ours"] <= 2.5
