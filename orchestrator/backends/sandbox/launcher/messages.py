"""The words between daemon and launcher: one SOCK_SEQPACKET message each, JSON with descriptors attached.

To the launcher:
  `hello`   stage_at, stage [[source, name]], instance, uid_base
  `pool`    pool, argv, limits {..}, spares; descriptors: seccomp program, then the carried files
  `start`   run, pool, token (the runner's; it goes into a pipe that only bubblewrap reads)
  `signal`  run, number
From the launcher:
  `ready`     version, controllers, privileged
  `output`    run; descriptor: the pipe of all the job says
  `listening` run, pid; descriptors: gateway listener, runner API listener, pidfd of the sandbox's PID 1
  `failed`    run, error; the run's `exited` follows when a process had been started, else nothing is left
  `exited`    run, code, oom_kills, lost; nothing of the run is left
"""

from __future__ import annotations

import array
import os
import socket

MAX_MESSAGE = 128 * 1024
MAX_DESCRIPTORS = 64


def receive(control: socket.socket, most: int = MAX_DESCRIPTORS) -> tuple[bytes, list[int]]:
    """One message with its descriptors, closed on exec (`socket.recv_fds` of Python 3.11 ignores that flag).

    Raises:
        OSError: a message or its descriptors were cut off.
    """
    numbers = array.array("i")
    room = socket.CMSG_LEN(most * numbers.itemsize)
    data, ancillary, flags, _ = control.recvmsg(MAX_MESSAGE, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for number in numbers:
            os.close(number)
        raise OSError("a message was cut off")
    return data, list(numbers)
