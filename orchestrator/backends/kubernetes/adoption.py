"""Which pods belong to unfinished jobs, from the journal's facts alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.model.events import Fact, ProvisionStarted, RunnerBound, RunnerCreated, RunnerVanished
from orchestrator.model.runner import RunnerName


def unfinished_runners(live: Iterable[Sequence[Fact]]) -> list[tuple[RunnerName, str]]:
    """Name and pod uid of every runner that an unfinished job ever had, oldest first; the uid is empty when it
    was meant to be made and nobody noted whether it was.

    `live` is `Journal.live`. Facts are taken as they are, also those of a job whose record cannot be made any
    more: a pod that ever had a job must not be given to another, whatever else is wrong.
    """
    found: list[tuple[RunnerName, str]] = []
    for facts in live:
        meant: RunnerName | None = None
        for fact in facts:
            event = fact.event
            match event:
                case ProvisionStarted():
                    meant = event.runner
                case RunnerCreated() | RunnerBound():
                    found.append((event.runner, event.uid))
                    meant = None
                case RunnerVanished():
                    meant = None
                case _:
                    pass
        if meant is not None:
            found.append((meant, ""))
    return found
