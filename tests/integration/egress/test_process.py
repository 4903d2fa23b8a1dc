"""The gateway as a process: handed over, closed, killed, orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.process import GatewayProcess
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.model.egress import EgressRule


async def refused(port: int) -> bool:
    """Whether nothing listens there any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def tunnel(lab, port, destination):
    reader, writer, head = await lab.connect(port, f"{lab.HOST}:{destination}")
    assert b" 200 " in head
    flight = lab.client_hello(lab.HOST)
    writer.write(flight)
    assert await reader.readexactly(len(flight)) == flight
    return reader, writer


async def test_close_ends_listener_and_connections_and_tells_everything(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        other = await gateway.open([lab.tls(destination)], "runner-b")
        reader, writer = await tunnel(lab, port, destination)
        kept, kept_writer = await tunnel(lab, other, destination)
        half, half_writer = await asyncio.open_connection("127.0.0.1", port)
        await gateway.process.close(lab.RUNNER)
        (verdict,) = gateway.of()  # told before close returned
        assert (verdict.allowed, verdict.reason) == (True, "runner_closed")
        assert verdict.bytes_up == verdict.bytes_down > 0
        assert await refused(port)
        for ended in (reader, half):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(ended.readexactly(1), 10)
        kept_writer.write(b"x")
        assert await kept.readexactly(1) == b"x"  # the other runner goes on
        for each in (writer, half_writer, kept_writer):
            each.close()
        await gateway.process.close(lab.RUNNER)  # again, and of one never known
        await gateway.process.close("runner-unknown")


async def test_two_closes_at_once_both_wait(lab, gateway):
    await gateway.open([])
    await asyncio.gather(gateway.process.close(lab.RUNNER), gateway.process.close(lab.RUNNER))
    await gateway.open([])


async def test_a_runner_is_opened_once(lab, gateway):
    await gateway.open([])
    second = lab.listener()
    with pytest.raises(GiveUpError) as caught:
        await gateway.process.open(lab.RUNNER, second, [])
    assert caught.value.reason == "runner_already_open"
    assert second.fileno() == -1


async def test_rules_that_cannot_match_open_nothing(lab, gateway):
    sock = lab.listener()
    port = sock.getsockname()[1]
    with pytest.raises(ConfigurationError):
        await gateway.process.open(lab.RUNNER, sock, [EgressRule("*.com")])
    assert await refused(port)
    with pytest.raises(GiveUpError) as caught:
        await gateway.process.open(lab.RUNNER, lab.listener(), [EgressRule("a.test")] * 3001)
    assert caught.value.reason == "egress_rules_too_many"
    assert gateway.process.alive


async def test_rules_of_a_runner_that_is_not_open(lab, gateway):
    assert not await gateway.process.change(lab.RUNNER, [lab.tls(443)])
    await gateway.open([])
    closing = asyncio.ensure_future(gateway.process.close(lab.RUNNER))
    await asyncio.sleep(0)  # its request is on the line, ahead of ours
    assert not await gateway.process.change(lab.RUNNER, [lab.tls(443)])
    await closing


async def test_rules_that_cannot_match_change_nothing(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        with pytest.raises(ConfigurationError):
            await gateway.process.change(lab.RUNNER, [EgressRule("*.com")])
        with pytest.raises(GiveUpError) as caught:
            await gateway.process.change(lab.RUNNER, [EgressRule("a.test")] * 3001)
        assert caught.value.reason == "egress_rules_too_many"
        _, writer = await tunnel(lab, port, destination)
        writer.close()


async def test_a_gateway_that_does_not_take_new_rules_ends(lab, gateway, monkeypatch):
    """What may or may not be in force is worse than no egress."""
    monkeypatch.setattr("orchestrator.egress.process.ANSWER_SECONDS", 0.2)
    port = await gateway.open([])
    os.kill(gateway.process.pid, signal.SIGSTOP)
    with pytest.raises(TryAgainError) as caught:
        await gateway.process.change(lab.RUNNER, [lab.tls(443)])
    assert caught.value.reason == "gateway_unavailable"
    assert not gateway.process.alive
    assert await refused(port)
    assert not await gateway.process.change(lab.RUNNER, [lab.tls(443)])


async def test_what_is_no_listener_is_refused(lab, gateway):
    with pytest.raises(GiveUpError) as caught:
        await gateway.process.open(lab.RUNNER, socket.socket(socket.AF_INET, socket.SOCK_DGRAM), [])
    assert caught.value.reason == "listener_invalid"
    await gateway.open([])  # the name is free


def test_names_are_checked_before_anything_starts():
    with pytest.raises(ConfigurationError):
        GatewayProcess(GatewayConfig(names={"x": "10.0.0.1"}), lambda *_: None)


async def test_killed_then_started_again_is_empty(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer = await tunnel(lab, port, destination)
        os.kill(gateway.process.pid, signal.SIGKILL)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 10)
        async with asyncio.timeout(10):
            while gateway.process.alive:
                await asyncio.sleep(0.01)
        assert gateway.deaths == [frozenset({lab.RUNNER})]
        assert await refused(port)  # no egress, not a hanging one
        unserved = lab.listener()
        unserved_port = unserved.getsockname()[1]
        with pytest.raises(TryAgainError) as caught:
            await gateway.process.open("runner-b", unserved, [])
        assert caught.value.reason == "gateway_unavailable"
        assert await refused(unserved_port)
        await gateway.process.close(lab.RUNNER)
        await gateway.process.start()
        assert await refused(port)
        again = await gateway.open([lab.tls(destination)])
        _, second = await tunnel(lab, again, destination)
        second.close()
        writer.close()


async def test_opens_under_way_fail_when_it_dies(lab, gateway):
    os.kill(gateway.process.pid, signal.SIGSTOP)
    opening = asyncio.create_task(gateway.process.open(lab.RUNNER, lab.listener(), []))
    await asyncio.sleep(0.05)
    os.kill(gateway.process.pid, signal.SIGKILL)
    with pytest.raises(TryAgainError):
        await asyncio.wait_for(opening, 10)


async def test_a_cancelled_open_leaves_nothing_open(lab, gateway):
    os.kill(gateway.process.pid, signal.SIGSTOP)
    sock = lab.listener()
    port = sock.getsockname()[1]
    opening = asyncio.create_task(gateway.process.open(lab.RUNNER, sock, []))
    await asyncio.sleep(0.05)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    os.kill(gateway.process.pid, signal.SIGCONT)
    await gateway.open([])  # answered after the close that the cancelled one sent
    assert await refused(port)


async def test_a_gateway_that_does_not_answer_a_close_is_killed(lab, gateway, monkeypatch):
    monkeypatch.setattr("orchestrator.egress.process.ANSWER_SECONDS", 0.2)
    port = await gateway.open([])
    os.kill(gateway.process.pid, signal.SIGSTOP)
    await gateway.process.close(lab.RUNNER)
    assert not gateway.process.alive
    assert await refused(port)


async def test_a_gateway_that_does_not_answer_an_open_is_killed_and_can_be_started_again(lab, gateway, monkeypatch):
    monkeypatch.setattr("orchestrator.egress.process.ANSWER_SECONDS", 0.2)
    hung = gateway.process.pid
    os.kill(hung, signal.SIGSTOP)
    with pytest.raises(TryAgainError):
        await gateway.process.open(lab.RUNNER, lab.listener(), [])
    async with asyncio.timeout(10):
        while gateway.process.alive:
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    await gateway.process.start()
    await gateway.open([])
    assert gateway.process.pid != hung


WORDS = {"host": "", "port": 1, "protocol": "", "allowed": True, "rule": ""}


@pytest.mark.parametrize(
    "message",
    [
        {"is": "nonsense"},
        {"is": ["ready"]},
        {"is": "opened", "number": "1"},
        {"is": "opened"},
        {"is": "verdict", "runner": "runner-a", "verdict": {"host": 1}},
        {"is": "verdict", "runner": "runner-a", "verdict": {**WORDS, "host": "x" * 2000}},
        {"is": "verdict", "runner": "runner-a", "verdict": {**WORDS, "bytes_up": -1}},
    ],
)
async def test_a_gateway_that_lies_about_its_words_is_killed(lab, gateway, message):
    await gateway.open([])
    gateway.process._received(message, None)
    async with asyncio.timeout(10):
        while gateway.process.alive:
            await asyncio.sleep(0.01)
    assert gateway.of() == []


async def test_verdicts_about_others_are_dropped(lab, gateway):
    gateway.process._received({"is": "verdict", "runner": "runner-z", "verdict": WORDS}, None)
    gateway.process._received({"is": "verdict", "runner": ["x"], "verdict": WORDS}, None)
    assert gateway.verdicts == []


async def test_a_consumer_that_fails_does_not_cost_the_next_verdict(lab):
    taken, faults = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))

    def on_verdict(runner, verdict):
        taken.append(verdict)
        if len(taken) == 1:
            raise ValueError("full")

    process = GatewayProcess(GatewayConfig(), on_verdict)
    await process.start()
    try:
        sock = lab.listener()
        port = sock.getsockname()[1]
        await process.open(lab.RUNNER, sock, [])
        for _ in range(2):
            await lab.ask(port, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n")
        await process.close(lab.RUNNER)
    finally:
        await process.stop()
    assert len(taken) == 2
    assert [type(fault) for fault in faults] == [ValueError]


async def test_stop_tells_what_was_open_and_is_no_death(lab):
    async with lab.egress() as gateway, lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        _, writer = await tunnel(lab, port, destination)
        pid = gateway.process.pid
        await asyncio.gather(gateway.process.stop(), gateway.process.stop())
        assert [v.reason for v in gateway.of()] == ["runner_closed"]
        assert gateway.deaths == []
        assert not psutil.pid_exists(pid)
        writer.close()
        await gateway.process.stop()


async def test_what_the_process_has_given_up(lab, gateway):
    process = psutil.Process(gateway.process.pid)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line
    )
    assert status["NoNewPrivs"].strip() == "1"
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    if os.geteuid() != 0:
        with pytest.raises(PermissionError):  # not dumpable: closed to its own user
            Path(f"/proc/{process.pid}/environ").read_bytes()
        return
    assert Path(f"/proc/{process.pid}/environ").read_bytes() == b""
    assert process.cwd() == "/"
    fds = [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    ours = {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (1, 2)}
    assert all(fd.startswith(("socket:", "anon_inode:", "pipe:", "/dev/null")) or fd in ours for fd in fds), fds


@pytest.mark.root
async def test_root_becomes_somebody_without_rights(lab):
    async with lab.egress(uid=231_999) as gateway, lab.serving(lab.echo) as destination:
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        assert "Uid:\t231999\t231999\t231999\t231999\n" in status
        assert "Gid:\t231999\t231999\t231999\t231999\n" in status
        assert "Groups:\t \n" in status
        assert "CapEff:\t0000000000000000\n" in status
        assert "CapPrm:\t0000000000000000\n" in status
        port = await gateway.open([lab.tls(destination), lab.tls(443, "no-such-name.invalid")])
        _, writer = await tunnel(lab, port, destination)
        writer.close()
        assert b" 50" in await lab.ask(port, b"CONNECT no-such-name.invalid:443 HTTP/1.1\r\n\r\n")


@pytest.mark.root
async def test_it_does_not_become_root(lab):
    process = GatewayProcess(GatewayConfig(uid=0), lambda *_: None)
    with pytest.raises(TryAgainError) as caught:
        await process.start()
    assert caught.value.reason == "gateway_unavailable"
    assert not process.alive


async def test_end_of_the_control_line_ends_the_process(lab):
    async with lab.egress() as gateway:
        port = await gateway.open([])
        pid = gateway.process.pid
        gateway.process._line.close()
        async with asyncio.timeout(10):
            while gateway.process.alive:
                await asyncio.sleep(0.01)
        assert not psutil.pid_exists(pid)
        assert await refused(port)


async def test_it_dies_with_a_daemon_that_was_killed(tmp_path):
    """SIGSTOPped, so that it cannot read the end of its control line: only the kernel's signal can end it."""
    script = tmp_path / "daemon.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio
            from orchestrator.egress.config import GatewayConfig
            from orchestrator.egress.process import GatewayProcess

            async def main():
                process = GatewayProcess(GatewayConfig(), lambda *_: None)
                await process.start()
                print(process.pid, flush=True)
                await asyncio.sleep(60)

            asyncio.run(main())
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        gateway = psutil.Process(int(await asyncio.to_thread(daemon.stdout.readline)))
        gateway.suspend()
        daemon.kill()
    async with asyncio.timeout(10):
        while gateway.is_running() and gateway.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.02)
