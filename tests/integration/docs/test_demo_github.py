"""`make demo-github` does what the documentation says of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from walkthrough import PROJECT

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(120)]


def test_all_goes_as_promised():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "tests" / "demo" / "github.py")],
        capture_output=True, text=True, check=False, timeout=100, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "::error title=denied by policy::environments are for the protected branch main [only_main_deploys]",
        "environment:staging",
        "orchestrator sources",
        "left behind: no process, no mount, no control group, no file",
        "all as promised",
    ):
        assert words in done.stdout, words
