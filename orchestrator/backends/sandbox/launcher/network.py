"""Listening sockets inside a sandbox's empty network namespace, made from outside."""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from orchestrator.backends.sandbox.launcher import kernel
from orchestrator.backends.sandbox.launcher.messages import receive

ADDRESSES = (("127.0.0.1", 3128), ("127.0.0.1", 3129))
"""Egress gateway and runner API."""

_IP_FREEBIND = 15
_BACKLOG = 128
_JOIN_SECONDS = 5.0


def listeners_inside(pid: int, *, privileged: bool, home: int) -> list[int]:
    """Descriptors of the two listeners in the network namespace of process `pid`.

    `home` is a descriptor of our own network namespace. Root goes there and back; anybody else has to enter
    the user namespace that owns the network namespace first, which has no way back, hence a child does it.

    Raises:
        OSError: the namespace cannot be joined.
    """
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not privileged:
            return _by_child(namespace)
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        try:
            return [_listener(address) for address in ADDRESSES]
        finally:
            kernel.setns(home, kernel.CLONE_NEWNET)
    finally:
        os.close(namespace)


def _listener(address: tuple[str, int]) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # bubblewrap may not have brought the loopback up yet
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        return listener.detach()


def _by_child(namespace: int) -> list[int]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                kernel.die_with_parent(signal.SIGKILL)
                kernel.setns(fcntl.ioctl(namespace, kernel.NS_GET_USERNS), kernel.CLONE_NEWUSER)
                kernel.setns(namespace, kernel.CLONE_NEWNET)
                socket.send_fds(theirs, [b"."], [_listener(address) for address in ADDRESSES])
                code = 0
            except OSError as error:
                theirs.send(str(error).encode())
            finally:
                os._exit(code)
        theirs.close()
        try:
            ours.settimeout(_JOIN_SECONDS)
            message, descriptors = receive(ours, len(ADDRESSES))
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.waitpid(child, 0)
    if len(descriptors) != len(ADDRESSES):
        raise OSError(message.decode("utf-8", "replace") or "the network namespace cannot be joined")
    return list(descriptors)
