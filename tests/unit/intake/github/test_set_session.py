"""What becomes of a session that is being made when the daemon is told to stop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from orchestrator.errors import TryAgainError
from orchestrator.intake.github.scale_sets.messages import ScaleSet
from orchestrator.intake.github.scale_sets.set_session import SetSession
from orchestrator.intake.github.source_config import ScaleSetConfig
from orchestrator.intake.github.tally import Tally


class Service:
    """Makes a session at once, and answers when it is let to."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.made, self.answers = asyncio.Event(), asyncio.Event()
        self.broken = False

    async def ensure_scale_set(self, name, _group, labels):
        return ScaleSet(7, name, 1, "Default", labels)

    async def create_session(self, _set_id, _owner):
        if not self.broken:
            self.sessions.append("session-1")
        self.made.set()
        await self.answers.wait()
        if self.broken:
            raise TryAgainError("no answer", reason="github_unavailable")
        return SimpleNamespace(id="session-1")

    async def delete_session(self, session):
        self.sessions.remove(session.id)


def keeper_of(service: Service) -> tuple[SetSession, dict[str, str]]:
    notes: dict[str, str] = {}
    kept = SimpleNamespace(write=notes.__setitem__, read=lambda key: notes.get(key, ""))
    config = ScaleSetConfig(name="linux", labels=("linux",), pool="linux", script="run.sh")
    return SetSession(service, config, "owner", kept, Tally()), notes


async def stopped_while_it_opens(service: Service, keeper: SetSession) -> None:
    opening = asyncio.create_task(keeper.open())
    async with asyncio.timeout(5):
        await service.made.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


@pytest.mark.parametrize("broken", [False, True])
async def test_one_that_is_being_made_at_the_stop_is_ended(broken):
    service = Service()
    service.broken = broken
    keeper, _ = keeper_of(service)
    await stopped_while_it_opens(service, keeper)
    service.answers.set()
    await keeper.close(5)
    assert service.sessions == []


async def test_one_that_was_made_at_the_stop_and_cannot_be_ended_is_noted_for_the_next_daemon():
    service = Service()
    keeper, notes = keeper_of(service)
    await stopped_while_it_opens(service, keeper)

    async def refused(_session):
        raise TryAgainError("no answer", reason="github_unavailable")

    service.delete_session = refused
    service.answers.set()
    await keeper.close(5)
    assert list(notes.values()) == ["session-1"]


async def test_a_service_that_does_not_answer_holds_up_no_stop():
    service = Service()
    keeper, _ = keeper_of(service)
    await stopped_while_it_opens(service, keeper)
    async with asyncio.timeout(5):
        await keeper.close(0.01)


async def test_one_that_was_made_is_noted_and_ended_once():
    service = Service()
    service.answers.set()
    keeper, notes = keeper_of(service)
    await keeper.open()
    assert list(notes.values()) == ["session-1"]
    await keeper.close(5)
    await keeper.close(5)
    assert (service.sessions, list(notes.values())) == ([], [""])
