"""What fails in CI has one more try, aloud; what fails for certain fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TWICE = Path(__file__).parents[1] / "twice"
FLAKY = """
import pathlib
import pytest

@pytest.mark.parametrize("name", ["plain", 'a"b', "c\\\\d"])
def test_second(name):
    seen = pathlib.Path(f"seen-{ord(name[0])}")
    assert seen.exists() or seen.touch()

def test_good():
    with open("good", "a") as file:
        file.write("x")
"""

THEN_SKIPPED = """
import pathlib
import pytest

def test_second():
    if pathlib.Path("seen").exists():
        pytest.skip("what it needs is gone")
    assert pathlib.Path("seen").touch()
"""
OTHER_NAMES = """
import os
import pytest

@pytest.mark.parametrize("name", [f"of {os.getpid()}"])
def test_second(name):
    with open("seen", "a") as file:
        file.write("x")
        assert file.tell() > 1
"""


def run(folder: Path, tests: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\n")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "SECOND_TRY")}
    return subprocess.run(
        [TWICE, sys.executable, "-m", "pytest", "-q", "test_it.py"],
        cwd=folder,
        env=inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_what_passes_only_then_is_told(tmp_path):
    done = run(tmp_path, FLAKY, CI="true")
    assert done.returncode == 0, done.stdout
    assert "UNSTABLE" in done.stdout
    assert (tmp_path / "build" / "unstable.txt").read_text().splitlines() == [
        "test_it.py::test_second[plain]",
        'test_it.py::test_second[a"b]',
        "test_it.py::test_second[c\\\\d]",
    ]
    assert (tmp_path / "good").read_text() == "x", "what passed is not run again"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "environment"),
    [
        pytest.param(FLAKY, {}, id="not in CI"),
        pytest.param(FLAKY, {"CI": "true", "SECOND_TRY": "0"}, id="not wanted"),
        pytest.param("def test_bad():\n    assert False", {"CI": "true"}, id="fails for certain"),
        pytest.param(FLAKY.replace('"plain"', '"plain", "d"'), {"CI": "true"}, id="too many"),
        pytest.param(THEN_SKIPPED, {"CI": "true"}, id="is skipped then"),
        pytest.param(OTHER_NAMES, {"CI": "true"}, id="is not found again"),
    ],
)
def test_what_fails_fails(tmp_path, tests, environment):
    done = run(tmp_path, tests, **environment)
    assert done.returncode == 1, done.stdout
    assert "UNSTABLE" not in done.stdout
    assert not (tmp_path / "build").exists()


@pytest.mark.slow
def test_other_ends_stay_what_they_are(tmp_path):
    assert run(tmp_path, "", CI="true").returncode == 5, "nothing was collected"
    assert run(tmp_path, "def", CI="true").returncode == 2, "no Python"
