"""What a backend says of a job is masked before it can become a fact."""

from __future__ import annotations

import pytest

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.actions import Performer
from orchestrator.lifecycle.observation import SECOND, Action, Observation
from orchestrator.lifecycle.patience import Patience
from orchestrator.model.record import Record, fold
from orchestrator.model.runner import Obstacle, Pending, RunnerName, RunnerState, RunnerView
from orchestrator.testing import stories
from orchestrator.testing.backend import MemoryBackend
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.policy import FixedPolicy
from orchestrator.testing.stories import facts_for

SECRET = "s3cret" * 10


@pytest.fixture
def record() -> Record:
    meant = stories.e.ProvisionStarted(stories.RUNNER, "abc", 1, "memory")
    return fold(facts_for(stories.offer(), [stories.ADMITTED, meant, stories.CREATED]))


async def looked(record: Record, backend: MemoryBackend) -> Observation:
    clock = SteppedClock()
    performer = Performer(FixedPolicy(), {"memory": backend}, {}, mask=lambda text: text.replace(SECRET, "***"))
    now = Observation(clock.now_ns(), None)
    return await performer.perform(Action.LOOK_AT_RUNNER, record, now, Patience(clock, SECOND), None)


async def test_in_what_keeps_a_runner_from_starting(record: Record) -> None:
    backend = MemoryBackend()
    pending = Pending(Obstacle.IMAGE_PULL, f"pull {'x' * 990} {SECRET}")

    async def inspect(name: RunnerName) -> RunnerView:
        return RunnerView(name, RunnerState.ALIVE, "uid-1", detail=f"it says {SECRET}", pending=pending)

    backend.inspect = inspect  # type: ignore[method-assign]
    view = (await looked(record, backend)).runner
    assert view is not None
    assert view.detail == "it says ***"
    assert view.pending is not None
    assert view.pending.detail.startswith("pull xxx")
    assert "s3c" not in view.pending.detail  # not even the half that the cut would have left


async def test_in_why_a_call_failed(record: Record) -> None:
    backend = MemoryBackend()

    async def inspect(name: RunnerName) -> RunnerView:
        raise TryAgainError(f"{name}: https://user:{SECRET}@registry.example", reason="backend_unavailable")

    backend.inspect = inspect  # type: ignore[method-assign]
    failure = (await looked(record, backend)).failure
    assert failure is not None
    assert failure.text.endswith("https://user:***@registry.example")
