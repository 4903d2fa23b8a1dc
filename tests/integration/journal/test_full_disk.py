"""A disk that is really full, under the journal, the audit log and the log of decisions: nothing half, and well again.

What each of them promises of it is in the `full_disk.py` of its folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = {name: Path(__file__).parents[1] / name / "full_disk.py" for name in ("journal", "audit", "policy")}


@pytest.fixture(params=SCRIPTS)
def script_file(request: pytest.FixtureRequest) -> str:
    return str(SCRIPTS[request.param])


@pytest.mark.root
def test_a_full_file_system(tmp_path: Path, script_file: str) -> None:
    unshare = shutil.which("unshare")
    if os.geteuid() or unshare is None:
        pytest.skip("needs root and unshare(1) to mount a small file system of its own")
    mount = f"mount -t tmpfs -o size=3m,mode=0700 none {tmp_path}"
    # The mount is private to the child and goes with it.
    command = [unshare, "--mount", "--propagation", "private", "sh", "-c"]
    if subprocess.run([*command, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine forbids mounts in a mount namespace of one's own")
    script = f'{mount} && exec "$0" "$1" "$2" tmpfs'
    done = subprocess.run(
        [*command, script, sys.executable, script_file, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_size_limit(tmp_path: Path, script_file: str) -> None:
    done = subprocess.run(
        [sys.executable, script_file, str(tmp_path), "limit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
