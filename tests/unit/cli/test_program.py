"""The program as a process: quick to start, quiet about defects, at home in pipes and shells."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.exits import EXIT_CODE_MEANINGS, ExitCode

PROGRAM = [sys.executable, "-m", "orchestrator"]


def run(*arguments: str, **more):
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False, **more)


def test_help_starts_at_once_and_imports_nothing_heavy():
    code = "import sys, orchestrator.cli.main as m; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"aiohttp", "pydantic", "pydantic_settings", "opentelemetry", "cryptography", "yaml", "http.client"}
    assert heavy.isdisjoint(loaded.stdout.split())
    best = floor = 10.0
    imports = [sys.executable, "-c", "import typer, rich.console"]
    for _ in range(5):
        best = min(best, processor_seconds(lambda: run("--help").check_returncode()))
        floor = min(floor, processor_seconds(lambda: subprocess.run(imports, check=True, timeout=60)))
    assert best < 4 * floor, f"--help took {best:.2f} s, {best / floor:.1f} times its libraries' import"


def processor_seconds(act):
    """What the processes that `act` starts and awaits compute, whatever else the machine does meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    act()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell):
    variables = os.environ | {"_ORCHESTRATOR_COMPLETE": f"source_{shell}"}
    done = subprocess.run(
        [sys.executable, "-c", "from orchestrator.cli.main import main; main()"],
        env=variables, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "_ORCHESTRATOR_COMPLETE" in done.stdout


def test_completion_names_the_commands():
    words = {"_ORCHESTRATOR_COMPLETE": "complete_bash", "COMP_WORDS": "orchestrator ca", "COMP_CWORD": "1"}
    done = run(env=os.environ | words)
    assert "cancel" in done.stdout.split()


def test_a_reader_that_goes_away_is_no_traceback(local_daemon, make_view):
    for number in range(5000):
        job_id = f"dispatch.{number:032d}.1"
        local_daemon.jobs[job_id] = make_view(job_id)
    child = subprocess.Popen(
        [*PROGRAM, "jobs", "--json", "--limit", "5000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stderr
    child.stdout.readline()
    child.stdout.close()
    errors = child.stderr.read()
    child.stderr.close()
    child.wait(30)
    assert "Traceback" not in errors
    assert "internal error" not in errors


def test_an_interrupted_follow_leaves_the_job_alone(local_daemon, make_view):
    local_daemon.faults["silent_log"] = 100
    child = subprocess.Popen(
        [*PROGRAM, "submit", "--name", "a", "--script", "b"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.read(3) == "hel"
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == ExitCode.INTERRUPTED
    assert re.search(r"^dispatch\.\S+ goes on; end it with: orchestrator cancel", errors, re.MULTILINE)
    assert not any(method == "DELETE" for method, _, _ in local_daemon.requests)


def test_a_defect_is_one_line(tmp_path):
    broken = (
        "import orchestrator.cli.version as v, orchestrator.cli.main as m\n"
        "import orchestrator.cli.output as o\n"
        "def boom(*a): raise ZeroDivisionError('oh')\n"
        "o.say = boom\n"
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken, "version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "internal error: ZeroDivisionError: oh" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_colour_where_none_is_wanted(local_daemon, make_view):
    job_id = "dispatch.aa11bb22cc33dd44.1"
    local_daemon.jobs[job_id] = make_view(job_id)
    local_daemon.end(local_daemon.jobs[job_id])
    assert "\x1b" not in run("show", job_id).stdout
    assert "\x1b[" in run("show", job_id, env=os.environ | {"FORCE_COLOR": "1", "TERM": "xterm"}).stdout


def on_a_terminal(*arguments: str, until: str) -> tuple[str, int]:
    """Run on a pseudo-terminal until `until` was shown, interrupt it, and return all that was shown."""
    master, slave = pty.openpty()
    child = subprocess.Popen([*PROGRAM, *arguments], stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    shown = b""
    try:
        while until.encode() not in shown:
            shown += os.read(master, 4096)
        child.send_signal(signal.SIGINT)
        code = child.wait(30)
        with contextlib.suppress(OSError):  # Linux answers EIO when the last writer is gone
            while more := os.read(master, 4096):
                shown += more
        return shown.decode(), code
    finally:
        child.kill()
        child.wait()
        os.close(master)


def test_a_terminal_is_not_steered_by_a_log(local_daemon, make_view):
    job_id = "dispatch.aa11bb22cc33dd44.1"
    local_daemon.jobs[job_id] = make_view(job_id)
    local_daemon.log = b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jend\n"
    shown, _ = on_a_terminal("logs", job_id, until="end")
    assert "\x1b[31mred\x1b[0m end" in shown
    assert "title" not in shown
    assert "\x1b[2J" not in shown


def test_watch_draws_again_until_interrupted(local_daemon, make_view):
    job_id = "dispatch.aa11bb22cc33dd44.1"
    local_daemon.jobs[job_id] = make_view(job_id)
    local_daemon.after_lists = lambda: local_daemon.end(local_daemon.jobs[job_id])
    shown, code = on_a_terminal("jobs", "--watch", "--interval", "0.2", until="completed")
    assert code == 0
    assert "queued" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("page", ["settings", "cli"])
def test_reference_pages_are_written(tmp_path, cli, page):
    assert cli("reference", page, "--output", str(tmp_path / "page.md")).exit_code == 0
    assert cli("reference", page).stdout == (tmp_path / "page.md").read_text()


def test_every_exit_code_is_documented():
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)


@pytest.mark.parametrize(
    "command",
    [("init", "{}/x"), ("backup", "{}/"), ("audit", "verify", "{}"), ("notifications", "new-key", "{}/k")],
)
def test_a_path_in_the_way_is_no_defect(tmp_path, command):
    """A name that is longer than any: also root, who may go anywhere, cannot go there."""
    way = tmp_path / ("n" * 300)
    done = subprocess.run(
        [*PROGRAM, *(part.format(way) for part in command)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (ExitCode.FAILURE, ExitCode.USAGE)
    assert "File name too long" in done.stderr
    assert "fix:" in done.stderr
    assert "defect" not in done.stderr


def test_a_full_disk_behind_standard_output_is_no_defect():
    command = [*PROGRAM, "monitoring", "rules"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.FAILURE
    assert "what this prints cannot be written: No space left on device" in done.stderr
    assert "defect" not in done.stderr


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "<&- >&-"])
def test_closed_standard_streams_are_opened_before_any_file_gets_their_number(tmp_path, closed):
    """A daemon whose journal were its file 1 would have everything that is printed written into it."""
    look = (
        "import os, orchestrator.cli.output as o\n"
        "def places(*_):\n"
        "    seen = ' '.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2))\n"
        f"    open({str(tmp_path / 'places')!r}, 'w').write(seen)\n"
        "o.say = places\n"
        "from orchestrator.cli.main import main\n"
        "main()\n"
    )
    (tmp_path / "look.py").write_text(look)
    line = f'exec "{sys.executable}" "{tmp_path}/look.py" version {closed}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    opened = (tmp_path / "places").read_text().split()
    for number, mark in ((0, "<&-"), (1, " >&-"), (2, "2>&-")):
        if mark in " " + closed:
            assert opened[number] == "/dev/null"
