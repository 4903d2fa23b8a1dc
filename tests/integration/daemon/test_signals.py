"""The program under signals and with a policy engine that does not answer."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from orchestrator.testing.approvals import public_pem

pytestmark = pytest.mark.sandbox


def metrics(program) -> str:
    url = json.loads((program.folder / "state" / "daemon.json").read_text())["url"]
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        return answer.read().decode()


def value(program, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics(program), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_hangup_reloads_the_policy_and_a_bad_bundle_changes_nothing(program, bundle):
    daemon = program().start()
    bundle.write(bundle.policy + "\n# changed\n")
    daemon.signal(signal.SIGHUP)
    good = daemon.said("policy reloaded")
    assert good["changed"] is True
    assert good["bundle"] != good["before"]
    for broken, reason in (
        (bundle.policy + "\nallow if {", "policy_invalid"),
        (bundle.policy.replace("true", "false"), "policy_tests_failed"),
    ):
        before = value(daemon, 'orchestrator_policy_reload_total{outcome="refused"}')
        bundle.write(broken)
        daemon.signal(signal.SIGHUP)
        daemon.until(lambda: value(daemon, 'orchestrator_policy_reload_total{outcome="refused"}') == before + 1)  # noqa: B023
        assert value(daemon, "orchestrator_policy_reload_failed") == 1
        refusal = [line for line in daemon.log if "reload refused" in line["event"]][-1]
        assert refusal["level"] == "error"
        assert refusal["reason"] == reason
        assert refusal["fix"]
    bundle.write(bundle.policy + "\n# changed\n")
    daemon.signal(signal.SIGHUP)
    daemon.until(lambda: value(daemon, "orchestrator_policy_reload_failed") == 0)
    assert value(daemon, 'orchestrator_policy_reload_total{outcome="unchanged"}') == 1, "the good one was in force"
    assert daemon.end() == 0


def test_signals_that_were_blocked_when_it_was_started_are_obeyed(program):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
    try:
        daemon = program().start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    daemon.signal(signal.SIGHUP)
    daemon.said("policy reloaded")
    assert daemon.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_is_told_to_stop_while_it_starts_stops(program, number):
    """It starts for as long as the policy server does not answer, which is held until the end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        opa = {"engine": "opa", "opa_url": f"http://127.0.0.1:{server.getsockname()[1]}", "timeout_seconds": 60}
        daemon = program(policy=opa).start(wait=False)
        asking, _ = server.accept()
        with asking:
            daemon.signal(number)
            assert daemon.process.wait(30) == 0, daemon.errors.read_text()
    assert "stopped before it was ready" in daemon.errors.read_text()
    assert not (daemon.folder / "state" / "daemon.json").exists()


@pytest.mark.slow
def test_a_daemon_is_told_to_stop_until_the_very_end_of_its_start(program):
    """Every room is open when it keeps its port, which is held until the end."""
    daemon = program()
    held = daemon.folder / "held"
    os.mkfifo(held)
    daemon.start(
        wait=False,
        fault=f"from orchestrator.daemon import main\nmain.keep_port = lambda *_: open({str(held)!r}).read()",
    )
    writer = os.open(held, os.O_WRONLY)  # returns when it reads
    daemon.signal(signal.SIGTERM)
    os.close(writer)
    assert daemon.process.wait(30) == 0, daemon.errors.read_text()


@pytest.mark.slow
def test_no_moment_of_a_start_is_without_ears_for_signals(program):
    """It is told to load everything again, and to stop, between all rooms being open and its being of use."""
    signals = "from orchestrator.daemon import main; import os, signal; made = main.LiveSettings"
    told = "[os.kill(os.getpid(), number) for number in (signal.SIGHUP, signal.SIGTERM)]"
    daemon = program().start(wait=False, fault=f"{signals}\nmain.LiveSettings = lambda *given: {told} and made(*given)")
    assert daemon.process.wait(30) == 0, daemon.errors.read_text()


ENDS_SOON = "from orchestrator.daemon import main; end = main.last_resort.expect_the_end\nmain.last_resort."


@pytest.mark.slow
def test_a_stop_that_hangs_says_where_and_ends(program):
    """A room's closing holds up the event loop itself: no bound of ours could be seen to."""
    hangs = "import time; main.Presence.withdraw = lambda _presence: time.sleep(3600)"
    daemon = program().start(fault=f"{ENDS_SOON}expect_the_end = lambda: end(0.1, 0.2)\n{hangs}")
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 1
    assert re.search(r"Timeout .*\n.*Thread .*\(most recent call first\)", daemon.errors.read_text())
    assert "time.sleep" not in daemon.errors.read_text(), "places are told, and no lines of code"


@pytest.mark.slow
def test_a_loop_that_loses_its_cancellation_does_not_keep_the_daemon(program):
    """As `asyncio.wait_for` of Python 3.11 does now and then: here it is lost for certain, once."""
    lost = """
import asyncio
from orchestrator.telemetry import metrics
sample = metrics.Metrics.sample_loop_lag

async def deaf(self):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await sample(self)

metrics.Metrics.sample_loop_lag = deaf
"""
    daemon = program().start(fault=f"from orchestrator.daemon import main{lost}")
    daemon.signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0, daemon.errors.read_text()
    assert "loop-lag" in daemon.said("did not end when told to: loop-lag")["event"]


BROKEN = """
import asyncio, time

async def broken(_presence):
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    raise RuntimeError("no such luck")

main.Presence.renew_for_ever = broken
"""


@pytest.mark.slow
def test_a_defect_ends_the_daemon_in_spite_of_its_threads(program):
    """Whoever starts it again learns of its end, and the log has the reason."""
    daemon = program().start(wait=False, fault=f"from orchestrator.daemon import main{BROKEN}")
    assert daemon.process.wait(60) == 1
    assert "no such luck" in daemon.said("ended by a defect")["exception"]


@pytest.mark.slow
def test_a_defect_ends_the_daemon_though_a_room_does_not_close(program):
    hangs = "main.Presence.withdraw = lambda _presence: time.sleep(3600)"
    fault = f"{ENDS_SOON}expect_the_end = lambda: end(0.1, 0.2){BROKEN}{hangs}"
    daemon = program().start(wait=False, fault=fault)
    assert daemon.process.wait(60) == 1
    assert "Timeout" in daemon.errors.read_text()


def deny(asking: socket.socket) -> None:
    """Hear one question out as an OPA server, and say no."""
    with asking, asking.makefile("rb") as question:
        head = b"".join(iter(question.readline, b"\r\n")).decode().lower()
        question.read(int(head.partition("content-length:")[2].split()[0]))
        body = b'{"result": {"allow": false}}'
        kind = b"Content-Type: application/json\r\nConnection: close\r\n"
        asking.sendall(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(body), body))


@pytest.mark.slow
def test_a_daemon_that_is_told_to_reload_while_it_starts_does_so_when_it_has_started(program):
    """It starts for as long as the policy server does not answer, and a reload asks that once more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        opa = {"engine": "opa", "opa_url": f"http://127.0.0.1:{server.getsockname()[1]}", "timeout_seconds": 60}
        daemon = program(policy=opa).start(wait=False)
        held, _ = server.accept()
        daemon.signal(signal.SIGHUP)
        deny(held)
        again, _ = server.accept()
        daemon.until(lambda: (daemon.folder / "state" / "daemon.json").exists())
        deny(again)
        daemon.said("policy belongs to the OPA server")
        assert daemon.end() == 0


def test_a_daemon_that_is_told_to_stop_before_it_has_read_its_settings_stops(program):
    """It reads them for as long as nothing comes, which is held until the end."""
    daemon = program()
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    daemon.start(wait=False)
    writer = os.open(daemon.config, os.O_WRONLY)  # returns when it reads
    try:
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(30) == 0, daemon.errors.read_text()
    finally:
        os.close(writer)


@pytest.mark.slow
def test_hangup_loads_the_approvers_and_signers_again(program, tmp_path):
    people, key = tmp_path / "approvers.yaml", tmp_path / "scanner.pub"
    people.write_text("version: 1\npeople: {}\n")
    key.write_text(public_pem("alice"))
    signers = {"scanner": {"key_files": [str(key)], "may": ["signature"]}}
    daemon = program(approvals={"people": str(people)}, promotion={"signers": signers}).start()
    people.write_text("version: 1\npeople: {alice: {}}\n")
    key.write_text(public_pem("carol"))
    daemon.signal(signal.SIGHUP)
    daemon.said("approvers: loaded")
    daemon.said("signers: loaded")
    people.write_text("version: 1\npeople: alice\n")
    daemon.signal(signal.SIGHUP)
    assert daemon.said("approvers reload refused")["reason"] == "approvers_invalid"
    daemon.said("approvers: refused")
    assert daemon.end() == 0


@pytest.mark.slow
def test_hangup_puts_settings_in_force_and_names_those_that_need_a_restart(program):
    daemon = program().start()
    daemon.write(pools=[{"name": "other"}], deadlines={"drain_seconds": 5, "sweep_seconds": 20})
    daemon.signal(signal.SIGHUP)
    told = daemon.said("settings reloaded")["changed"]
    assert told == ["pools.other", "pools.default", "deadlines.drain_seconds"]
    told = daemon.said("restart to put these settings in force too")["needs_restart"]
    assert told == ["deadlines.sweep_seconds"]
    daemon.config.write_text("no_such_setting: 1\n")
    daemon.signal(signal.SIGHUP)
    assert "no_such_setting" in daemon.said("settings reload refused; the one in force stays")["detail"]
    daemon.until(lambda: value(daemon, "orchestrator_settings_reload_failed") == 1.0)
    assert 'orchestrator_pool_capacity_runners{pool="other"}' in metrics(daemon), "an unfit file changes nothing"
    assert daemon.end() == 0


def test_a_closed_terminal_stops_the_daemon_in_order(program, tmp_path):
    daemon = program()
    pid, terminal = pty.fork()
    if pid == 0:
        errors = os.open(daemon.errors, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(errors, 2)
        os.execv(sys.executable, [sys.executable, "-m", "orchestrator", "run", "--config", str(daemon.config)])
    try:
        announced = tmp_path / "state" / "daemon.json"
        deadline = time.monotonic() + 30
        while not announced.exists():
            assert time.monotonic() < deadline, daemon.errors.read_text()
            time.sleep(0.02)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert any(line["event"] == "stopped" for line in daemon.log)
        assert not announced.exists()
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


@pytest.mark.slow
def test_a_thread_that_never_ends_does_not_keep_the_daemon(program):
    """It reads settings from a share that hangs, here a pipe into which nobody writes."""
    daemon = program().start()
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    daemon.signal(signal.SIGHUP)
    writer = os.open(daemon.config, os.O_WRONLY)  # returns when it reads
    try:
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(30) == 0, daemon.errors.read_text()
    finally:
        os.close(writer)
    assert "threads that took over 3 s to end are left behind" in daemon.errors.read_text()


def test_it_does_not_start_without_the_policy_server(program):
    daemon = program(
        policy={"engine": "opa", "opa_url": "http://user:hunter2hunter2@127.0.0.1:9", "timeout_seconds": 1}
    )
    daemon.start(wait=False)
    assert daemon.process.wait(30) == 1
    said = daemon.errors.read_text()
    assert "policy_engine_unavailable" in said
    assert "fix:" in said
    assert "127.0.0.1:9" in said
    assert "hunter2" not in said
    assert not (Path(daemon.folder) / "state" / "daemon.json").exists()
