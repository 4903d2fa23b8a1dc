"""`orchestrator-github-runner` as it is delivered: one file, run by a bare interpreter, that becomes the runner."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import orchestrator.agent

JIT = "eyJhIjoiYiJ9"
SHOW = """#!/bin/sh
printf '%s\\n' "$0" "$PWD" "$*" "$ACTIONS_RUNNER_INPUT_JITCONFIG" "$ACTIONS_RUNNER_HOOK_JOB_STARTED" \\
    "$ACTIONS_RUNNER_HOOK_JOB_COMPLETED" "$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE" \\
    "${ORCHESTRATOR_FILES:-no files}" "$RUNNER_MANUALLY_TRAP_SIG" "$$"
exit 7
"""


@dataclass
class Place:
    """A runner's home, the commands beside each other, and a release of the runner."""

    home: Path
    files: Path
    program: Path
    release: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "ORCHESTRATOR_FILES": str(self.files)}
        return subprocess.run(
            [sys.executable, "-I", str(self.program), *(command or (str(self.release / "run.sh"),))],
            env=environment | variables, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path) -> Place:
    found = Place(
        tmp_path / "home", tmp_path / "files", tmp_path / "bin" / "orchestrator-github-runner", tmp_path / "r"
    )
    for folder in (found.home, found.files, found.program.parent, found.release / "bin", found.release / "externals"):
        folder.mkdir(parents=True)
    shutil.copy(Path(orchestrator.agent.__file__).parent / "github_runner.py", found.program)
    (found.files / "jitconfig").write_text(JIT + "\n")
    run = found.release / "run.sh"
    run.write_text(SHOW)
    run.chmod(0o755)
    return found


def as_release(place: Place) -> None:
    (place.release / "bin" / "Runner.Listener").write_text("listener")
    (place.release / "bin" / "Runner.Listener").chmod(0o555)
    (place.release / "bin" / "alias").symlink_to("Runner.Listener")
    (place.release / "externals" / "node").write_text("node")
    (place.release / "_diag").mkdir()
    (place.release / "config.sh").write_text("")


def test_the_program_takes_over_with_its_registration_and_hooks(place):
    done = place.run(str(place.release / "run.sh"), "one", "two words")
    assert done.returncode == 7, done.stderr
    program, folder, arguments, jit, started, completed, deprecated, files, trap, _ = done.stdout.splitlines()
    assert (program, folder) == (str(place.release / "run.sh"), str(place.home))
    assert (arguments, jit, deprecated, files, trap) == ("one two words", JIT, "1", "no files", "1")
    assert not (place.files / "jitconfig").exists()
    hook = place.program.parent / "orchestrator-github-hook"
    assert Path(started).read_text() == f"#!/bin/sh\nexec '{hook}' job-started\n"
    for path, event in ((started, "job-started"), (completed, "job-completed")):
        assert path.endswith(f"{event}.sh")
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o500


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_end_of_a_job_is_one_line_and_never_a_failure(place, shell):
    completed = place.run().stdout.splitlines()[5]
    for job, line in (("forge.slot.1", "job forge.slot.1: evidence is made when the runner is gone\n"), ("", "")):
        environment = {"PATH": os.environ["PATH"]} | ({"ORCHESTRATOR_JOB_ID": job} if job else {})
        done = subprocess.run([shell, "-e", completed], env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, line, "")


def test_a_registration_is_good_once(place):
    assert place.run().returncode == 7
    again = place.run()
    assert again.returncode == 66
    assert again.stdout == ""
    assert again.stderr.startswith("orchestrator-github-runner: there is no registration")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff", b"x" * ((1 << 20) + 1)])
def test_what_is_no_registration_starts_nothing(place, content):
    (place.files / "jitconfig").write_bytes(content)
    done = place.run()
    assert (done.returncode, done.stdout) == (66, "")


def test_without_a_folder_of_files_nothing_starts(place):
    assert place.run(ORCHESTRATOR_FILES="").returncode == 66


@pytest.mark.parametrize("command", [(), ("--",), ("--jitconfig", "x")])
def test_a_wrong_call_is_told(place, command):
    if command == ():
        done = subprocess.run([sys.executable, "-I", str(place.program)], capture_output=True, text=True, check=False)
    else:
        done = place.run(*command)
    assert done.returncode == 64
    assert "usage" in done.stderr
    assert (place.files / "jitconfig").exists()


def test_a_program_that_is_not_there_is_an_operating_system_error(place):
    done = place.run("/nowhere/run.sh")
    assert done.returncode == 71
    assert "/nowhere/run.sh" in done.stderr or "No such file" in done.stderr
    assert JIT not in done.stderr


def test_a_writable_release_runs_where_it_is(place):
    as_release(place)
    program, folder, *_ = place.run().stdout.splitlines()
    assert (program, folder) == (str(place.release / "run.sh"), str(place.release))
    assert not (place.home / "actions-runner").exists()


def read_only(monkeypatch) -> None:
    """As on a read-only mount, which stops root too."""
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)


@pytest.mark.parametrize("name", ["run.sh", "bin/Runner.Listener"])
def test_a_release_that_lies_read_only_is_copied(place, monkeypatch, name):
    from orchestrator.agent.github_runner import writable

    as_release(place)
    read_only(monkeypatch)
    folder, program = writable(str(place.release / name), str(place.home))
    copy = place.home / "actions-runner"
    assert (folder, program) == (str(copy), str(copy / name))
    assert sorted(one.name for one in copy.iterdir()) == ["bin", "config.sh", "externals", "run.sh"]
    assert (copy / "externals").is_symlink()
    assert (copy / "externals" / "node").read_text() == "node"
    assert not (copy / "bin").is_symlink()
    assert (copy / "bin" / "alias").is_symlink()
    assert os.access(copy / "run.sh", os.X_OK)
    assert stat.S_IMODE((copy / "bin" / "Runner.Listener").stat().st_mode) == 0o555
