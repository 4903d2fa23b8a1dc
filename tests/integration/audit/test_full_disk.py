"""A disk that is really full: what waits is written once there is space again, in order, and nothing counts before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("full_disk.py")


@pytest.mark.root
def test_a_full_file_system(tmp_path: Path) -> None:
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
        [*command, script, sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_size_limit(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "limit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
