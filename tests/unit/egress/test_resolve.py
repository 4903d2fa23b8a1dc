"""Names are looked up once per runner, and only public addresses are dialled."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from orchestrator.egress import resolve
from orchestrator.egress.resolve import Pins, UnreachableError


class Names:
    """DNS that answers as its owner likes, differently each time."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def refused(pins: Pins, host: str) -> str:
    with pytest.raises(UnreachableError) as caught:
        await pins.addresses(host)
    return caught.value.reason


async def test_a_rebinding_name_changes_nothing():
    names = Names(["8.8.8.8"], ["127.0.0.1"])
    pins = Pins({}, names)
    assert await pins.addresses("a.test") == ("8.8.8.8",)
    assert await pins.addresses("a.test") == ("8.8.8.8",)
    assert names.asked == ["a.test"]


async def test_each_runner_asks_for_itself():
    names = Names(["8.8.8.8"], ["1.1.1.1"])
    assert await Pins({}, names).addresses("a.test") == ("8.8.8.8",)
    assert await Pins({}, names).addresses("a.test") == ("1.1.1.1",)


async def test_private_addresses_are_dropped_and_that_is_pinned_too():
    names = Names(["10.0.0.1", "8.8.8.8", "::ffff:10.0.0.1"], ["169.254.169.254", "fd00::1", "::1", "0.0.0.0"])
    pins = Pins({}, names)
    assert await pins.addresses("mixed.test") == ("8.8.8.8",)
    assert await refused(pins, "inner.test") == "address_not_public"
    assert await refused(pins, "inner.test") == "address_not_public"
    assert len(names.asked) == 2


async def test_only_the_operator_names_a_private_address():
    names = Names()
    assert await Pins({"git.corp": "10.0.0.7"}, names).addresses("git.corp") == ("10.0.0.7",)
    assert names.asked == []


async def test_a_failed_lookup_is_no_answer():
    pins = Pins({}, Names(socket.gaierror(socket.EAI_AGAIN, "later"), ["8.8.8.8"]))
    assert await refused(pins, "a.test") == "name_unresolved"
    assert await pins.addresses("a.test") == ("8.8.8.8",)


async def test_concurrent_connections_share_one_lookup_and_its_failure():
    names = Names(socket.gaierror(socket.EAI_NONAME, "no"))
    pins = Pins({}, names)
    outcomes = await asyncio.gather(*(refused(pins, "a.test") for _ in range(5)))
    assert outcomes == ["name_unresolved"] * 5
    assert len(names.asked) == 1


async def test_an_impatient_connection_does_not_end_the_lookup_for_others():
    answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def slow(host: str) -> list[str]:
        return await answer

    pins = Pins({}, slow)
    with pytest.raises(UnreachableError) as caught:
        await pins.connect("a.test", 443, asyncio.Protocol, 0.01)
    assert caught.value.reason == "connect_timeout"
    answer.set_result(["8.8.8.8"])
    assert await pins.addresses("a.test") == ("8.8.8.8",)


async def test_names_of_a_runner_are_bounded(monkeypatch):
    monkeypatch.setattr(resolve, "MAX_PINNED", 2)
    pins = Pins({}, Names(["8.8.8.8"], ["8.8.8.8"]))
    await pins.addresses("a.test")
    await pins.addresses("b.test")
    assert await refused(pins, "c.test") == "too_many_names"
    assert await pins.addresses("a.test")


async def test_lookups_at_once_are_bounded():
    running, most = 0, 0

    async def lookup(host: str) -> list[str]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        return ["8.8.8.8"]

    pins = Pins({}, lookup)
    await asyncio.gather(*(pins.addresses(f"h{i}.test") for i in range(20)))
    assert most == resolve.MAX_LOOKUPS


async def test_the_next_address_is_tried_and_the_one_that_answered_is_told():
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        protocol, address = await resolve._dial(["::1", "127.0.0.1"], port, asyncio.Protocol, 5)
    assert address == "127.0.0.1"
    assert isinstance(protocol, asyncio.Protocol)


async def test_nobody_answers():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        pins = Pins({"a.test": "127.0.0.1"}, Names())
        with pytest.raises(UnreachableError) as caught:
            await pins.connect("a.test", taken.getsockname()[1], asyncio.Protocol, 5)
    assert caught.value.reason == "connect_failed"


async def test_the_machines_own_lookup_asks_for_absolute_names(monkeypatch):
    asked = []

    def getaddrinfo(host, *args, **kwargs):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve.system_lookup()("a.test") == ["8.8.8.8"]
    assert asked == [b"a.test."]


HANGS = """
import asyncio, socket, time
from orchestrator.egress.resolve import system_lookup
socket.getaddrinfo = lambda *_args, **_kwargs: time.sleep(3600)

async def main():
    try:
        async with asyncio.timeout(0.05):
            await system_lookup()("site.test")
    except TimeoutError:
        print("nobody waits")

asyncio.run(main())
"""


def test_a_dead_name_server_does_not_keep_the_program():
    """A gateway that was told to end would be killed for it in the end."""
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "nobody waits\n"


async def test_no_more_lookups_than_threads_may_be(monkeypatch):
    monkeypatch.setattr(resolve, "MAX_THREADS", 1)
    gate, asked = threading.Event(), []

    def ask(host, *_args, **_kwargs):
        asked.append(host)
        gate.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    lookup = resolve.system_lookup()
    with pytest.raises(TimeoutError):  # who gives up leaves its thread where it is
        async with asyncio.timeout(0.05):
            await lookup("one.test")
    second = asyncio.create_task(lookup("two.test"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == [b"one.test."]
    gate.set()
    assert await second == ["192.0.2.1"]
    assert asked == [b"one.test.", b"two.test."]
