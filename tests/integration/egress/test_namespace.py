"""A listener made inside an empty network namespace, served from outside: the way a sandbox gets its egress."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import queue
import socket
import struct
import threading

import pytest

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1


def inside(listeners: queue.Queue, asked: queue.Queue, answers: queue.Queue) -> None:
    """A thread alone in a new network namespace, with nothing but its own loopback."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        listeners.put(OSError(ctypes.get_errno(), "unshare"))
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    listeners.put(socket.create_server(("127.0.0.1", 3128)))
    while (job := asked.get()) is not None:
        try:
            answers.put(job())
        except OSError as error:
            answers.put(error)


@pytest.mark.root
async def test_the_gateway_is_the_only_way_out(lab, gateway):
    listeners, asked, answers = queue.Queue(), queue.Queue(), queue.Queue()
    thread = threading.Thread(target=inside, args=(listeners, asked, answers))
    thread.start()
    try:
        listener = await asyncio.to_thread(listeners.get, timeout=10)
        if isinstance(listener, OSError):
            pytest.skip(f"NOT TESTED: no network namespace can be made here: {listener}")
        async with lab.serving(lab.echo) as destination:
            await gateway.process.open(lab.RUNNER, listener, [lab.tls(destination)])
            flight = lab.client_hello(lab.HOST)

            def direct():
                socket.create_connection(("127.0.0.1", destination), timeout=5)

            def through():
                with socket.create_connection(("127.0.0.1", 3128), timeout=5) as sock:
                    sock.sendall(f"CONNECT {lab.HOST}:{destination} HTTP/1.1\r\n\r\n".encode())
                    assert b" 200 " in sock.recv(4096)
                    sock.sendall(flight)
                    return sock.recv(len(flight), socket.MSG_WAITALL)

            def canary():
                with socket.create_connection(("127.0.0.1", 3128), timeout=5) as sock:
                    sock.sendall(b"CONNECT egress-canary.invalid:443 HTTP/1.1\r\n\r\n")
                    return sock.recv(4096)

            async def do(job):
                asked.put(job)
                return await asyncio.to_thread(answers.get, timeout=10)

            assert (await do(direct)).errno == errno.ECONNREFUSED
            assert await do(through) == flight
            assert b"403 Forbidden (host_not_listed)" in await do(canary)
            allowed, refused = sorted(await gateway.told(2), key=lambda v: v.canary)
            assert (allowed.allowed, allowed.bytes_up) == (True, len(flight))
            assert (refused.allowed, refused.canary) == (False, True)
            await gateway.process.close(lab.RUNNER)
            assert (await do(canary)).errno == errno.ECONNREFUSED
    finally:
        asked.put(None)
        await asyncio.to_thread(thread.join)
