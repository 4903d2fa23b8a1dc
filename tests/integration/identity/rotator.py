"""`rotator.py STATE HOOK PLACE FILE [POINT]`: rotates and finishes a secret once, as the daemon does.

POINT kills the process, as `kill -9` does, *before* or *behind* the store of a state with that number, e.g. `before 2`.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from pathlib import Path

from orchestrator.identity.secrets.registry import Hook, Registered
from orchestrator.identity.secrets.rotation import Rotations
from orchestrator.identity.secrets.state import SecretState, StateStore

_numbers = itertools.count(1)


class Mortal(StateStore):
    point = ""

    def put(self, name: str, state: SecretState) -> None:
        number = next(_numbers)
        self._die_at(f"before {number}")
        super().put(name, state)
        self._die_at(f"behind {number}")

    def _die_at(self, here: str) -> None:
        if here == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


def secret(hook: str, place: str, file: str) -> Registered:
    program = Hook((sys.executable, "-I", "-S", hook, place), 20)
    bare = Registered("deploy-key", "team-a", 1, 1, Path(file), pools=("default",))
    return Registered(bare.name, bare.owner, 1, 1, bare.file, pools=bare.pools, rotate=program, remove=program)


async def main(state: str, hook: str, place: str, file: str, point: str = "") -> None:
    store = Mortal(Path(state))
    store.point = point
    rotations, one = Rotations(store, time.time_ns), secret(hook, place, file)
    await rotations.begin(one, "test")
    await rotations.make(one)
    await rotations.finish(one, lambda _value: False)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
