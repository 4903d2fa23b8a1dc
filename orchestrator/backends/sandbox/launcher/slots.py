"""One unused host user id for each live runner, when we are root."""

from __future__ import annotations

import pwd
import socket

MAX_SLOTS = 4096


class UidSlots:
    """Lends user ids from `base` + 1 upwards.

    An abstract Unix socket named after the id is its lock, so that two daemons on one machine never lend
    the same one and a killed daemon's are free at once.
    """

    def __init__(self, base: int) -> None:
        self._base = base
        self._lent: dict[int, socket.socket] = {}

    def take(self) -> int:
        """An id that no account and no other runner has.

        Raises:
            OSError: none of the ids is free.
        """
        for uid in range(self._base + 1, self._base + 1 + MAX_SLOTS):
            if uid in self._lent or _has_account(uid):
                continue
            lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                lock.bind(f"\0orchestrator-sandbox-uid-{uid}")
            except OSError:
                lock.close()
                continue
            self._lent[uid] = lock
            return uid
        raise OSError(f"no free host user id from {self._base + 1} on")

    def give_back(self, uid: int) -> None:
        lock = self._lent.pop(uid, None)
        if lock is not None:
            lock.close()


def _has_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
