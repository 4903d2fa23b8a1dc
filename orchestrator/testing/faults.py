"""Ways in which a call to the outside world goes wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import StrEnum

from orchestrator.errors import GiveUpError, TryAgainError


class Fault(StrEnum):
    """*done_but_failed* does it and says it failed; *forgotten* says it is done and does nothing.

    *no_room* says that a quota is used up. *delayed* waits, then does it; *late* does it, then waits with the answer;
    *hanging* does it and never answers.
    """

    NONE = "none"
    FAILED = "failed"
    REFUSED = "refused"
    DONE_BUT_FAILED = "done_but_failed"
    FORGOTTEN = "forgotten"
    DELAYED = "delayed"
    LATE = "late"
    HANGING = "hanging"
    NO_ROOM = "no_room"


class FaultPlan:
    """The faults of the coming calls, in order; when they are used up, all goes well."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = deque(faults)

    def add(self, *faults: Fault) -> None:
        self._faults.extend(faults)

    def clear(self) -> None:
        self._faults.clear()

    def next(self) -> Fault:
        return self._faults.popleft() if self._faults else Fault.NONE


def raise_for(fault: Fault) -> None:
    """Raise what a caller sees of this fault, if it sees anything."""
    if fault in (Fault.FAILED, Fault.DONE_BUT_FAILED):
        raise TryAgainError(f"told to fail: {fault.value}", reason="backend_unavailable")
    if fault is Fault.NO_ROOM:
        raise TryAgainError("told to have no room", reason="quota_exhausted")
    if fault is Fault.REFUSED:
        raise GiveUpError("told to refuse", reason="backend_refused")
