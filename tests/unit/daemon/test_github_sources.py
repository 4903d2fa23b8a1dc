"""What the daemon tells its GitHub sources of the engine's news."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.daemon.github.sources import GitHubSources, Opened
from orchestrator.model.events import Fact, JobFinished, RunnerDeleted
from orchestrator.testing.stories import EXITED, NAMED, RUNNER, offer


class Hearing:
    """A source that notes that it was told to look."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    def capacity_changed(self) -> None:
        self.told.set()


@pytest.mark.parametrize(
    "event", [EXITED, RunnerDeleted(RUNNER), JobFinished()], ids=lambda event: type(event).__name__
)
async def test_a_source_looks_when_a_runner_ends(event):
    """Without a hint the end of a job that no message tells would not be asked for."""
    source = Hearing()
    sources = GitHubSources(lambda: None, {"acme": Opened(source, None, "")})
    sources.observe([Fact(offer().key.id, 1, NAMED, 1)])
    sources.observe([Fact(offer().key.id, 1, event, 2)])
    assert not source.told.is_set(), "the engine's own record has not changed yet"
    async with asyncio.timeout(5):
        await source.told.wait()


async def test_a_source_looks_once_more_where_the_engine_was_slower_than_its_first_look():
    """Else a slot that is free again is nobody's until some other news, or the sweep, comes."""
    looks: list[bool] = []

    class Looking(Hearing):
        def capacity_changed(self) -> None:
            looks.append(len(looks) == 3)  # the engine's turn comes just after the first looks
            if looks[-1]:
                self.told.set()

    source = Looking()
    sources = GitHubSources(lambda: None, {"acme": Opened(source, None, "")})
    for number in range(3):  # for many news at once there is one look more, not one for each
        sources.observe([Fact(offer().key.id, 1, JobFinished(), number)])
    async with asyncio.timeout(30):
        await source.told.wait()
    assert looks == [False, False, False, True]


async def test_other_news_are_nothing_to_look_for():
    source = Hearing()
    GitHubSources(lambda: None, {"acme": Opened(source, None, "")}).observe([Fact(offer().key.id, 1, NAMED, 1)])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.told.wait()
