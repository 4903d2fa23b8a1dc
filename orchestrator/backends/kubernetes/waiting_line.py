"""The runners of one namespace that get no pod for now, and when each is told to try again.

A ResourceQuota's count of pods follows the pods: the quota controller needs milliseconds as a rule, but its informers
come back up to a minute after the API server was away, and what they missed is only counted again after
`--resource-quota-sync-period`, five minutes. No event that a runner's daemon may see tells of it. A pod that went is
therefore a hint and not a place: tries go on after it, one runner at a time, so that a place is taken soon after it is
counted, and a full quota is not stormed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection

from orchestrator.model.runner import RunnerName

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
"""Between two tries in a namespace whose quota stays full. Longer waits at the moment of the place, shorter costs
refused requests: one for each full namespace and wait."""

Later = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Call something after so many seconds, unless the answer is called before."""


def _later(seconds: float, due: Callable[[], None]) -> Callable[[], None]:
    return asyncio.get_running_loop().call_later(seconds, due).cancel


class WaitingLine:
    """Belongs to its event loop. `tell` has a runner's job look again; it may be told of one that is no more."""

    def __init__(self, tell: Callable[[RunnerName], None], later: Later = _later) -> None:
        self._tell = tell
        self._later = later
        self._for_room: OrderedDict[RunnerName, None] = OrderedDict()
        self._unguarded: dict[RunnerName, None] = {}
        self._delay = FIRST_SECONDS
        self._stop: Callable[[], None] | None = None
        self._closed = False

    @property
    def for_room(self) -> Collection[RunnerName]:
        """Those whom a full quota refused and who have no pod since."""
        return self._for_room.keys()

    def out_of_quota(self, name: RunnerName) -> None:
        """A full quota refused it. It keeps its place in line over tries."""
        self._for_room.setdefault(name)
        self._arm()

    def unguarded(self, name: RunnerName) -> None:
        """Its pool lacks what protects it."""
        self._unguarded[name] = None

    def left(self, name: RunnerName) -> None:
        """It has what it waited for, or wants it no more."""
        self._unguarded.pop(name, None)
        self._for_room.pop(name, None)
        if not self._for_room:
            self._disarm()

    def let_in(self, name: RunnerName) -> None:
        """A pod was made for it: where there was one place, there may be more."""
        self.left(name)
        self.hint()

    def hint(self) -> None:
        """There may be a place now: a pod went."""
        if self._for_room and not self._closed:
            self._disarm()
            self._next()
            self._arm()

    def recheck(self) -> None:
        """Everybody looks again now."""
        for name in (*self._unguarded, *self._for_room):
            self._tell(name)

    def close(self) -> None:
        """Tell nobody any more."""
        self._closed = True
        self._disarm()

    def _due(self) -> None:
        self._stop = None
        self._delay = min(LONGEST_SECONDS, 2 * self._delay)
        self._next()
        self._arm()

    def _next(self) -> None:
        """The first in line, who then is the last: it may lack what another does not need."""
        name = next(iter(self._for_room))
        self._for_room.move_to_end(name)
        self._tell(name)

    def _arm(self) -> None:
        if self._stop is None and self._for_room and not self._closed:
            self._stop = self._later(self._delay, self._due)

    def _disarm(self) -> None:
        self._delay = FIRST_SECONDS
        if self._stop is not None:
            self._stop()
            self._stop = None
