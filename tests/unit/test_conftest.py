"""The guards of the test suite itself, each shown to bite."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("10.0.0.1", 80), ("169.254.169.254", 80)])
def test_connecting_beyond_loopback_raises(address):
    with socket.socket() as sock, pytest.raises(RuntimeError, match="loopback only"):
        sock.connect(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, pytest.raises(RuntimeError, match="loopback only"):
        sock.sendto(b"x", address)


def test_names_are_not_looked_up():
    with pytest.raises(RuntimeError, match="DNS"):
        socket.getaddrinfo("orchestrator.example", 443)


async def test_asyncio_is_held_too():
    with pytest.raises(RuntimeError, match="loopback only"):
        await asyncio.open_connection("192.0.2.1", 80)


async def test_loopback_works():
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("localhost", port, family=socket.AF_INET)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


def test_a_process_left_running_fails_its_test(pytester: pytest.Pytester):
    guards = Path(__file__).parents[1] / "conftest.py"
    pytester.makeconftest(guards.read_text().replace("_GRACE_SECONDS = 10.0", "_GRACE_SECONDS = 0.05"))
    pytester.makepyfile(
        """
        import subprocess, sys, pytest
        kept = []

        def test_leaves_one():
            kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))

        def test_ends_its_own():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            child.kill()
            child.wait()

        def test_clean_up():
            kept[0].kill()
            kept[0].wait()
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*processes left running*time.sleep*"])
