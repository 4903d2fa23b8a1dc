"""What is there at the start costs no full collection any more, and what comes later is still collected."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

from orchestrator.daemon.collector import spare_the_loop


class Knot:
    def __init__(self) -> None:
        self.itself = self


def _look() -> None:
    old = Knot()
    spare_the_loop()
    assert gc.get_freeze_count() > 1000
    assert len(gc.get_objects()) < 1000, "what was there is looked at no more"
    new = Knot()
    gone = weakref.ref(new)
    del new
    for _ in range(2):
        held = [[] for _ in range(gc.get_threshold()[0] + 1)]
        del held
    assert gone() is None, "a knot made later was not collected by itself"
    assert old.itself is old


def test_start_is_frozen_and_later_knots_are_collected():
    # In a process of its own: freezing is for good, and would be for all tests after this one.
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    _look()
