"""The live list and what is told of its changes: whoever follows has the list, whatever happens and whenever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import TryAgainError
from orchestrator.lifecycle.why import why
from orchestrator.model import events
from orchestrator.model.job import JobId
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record, begin, fold
from orchestrator.model.record import apply as applied
from orchestrator.server import places
from orchestrator.server.page import board as boards
from orchestrator.server.page import broadcast as broadcasts
from orchestrator.server.page.board import Board
from orchestrator.server.page.broadcast import MAX_HELD_BYTES, RESYNC, Broadcast, Listener
from orchestrator.server.page.overview import Overview, RecentEnds
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal
from orchestrator.testing.stories import ADMITTED, BOUND, CREATED, FINISHED, STARTED, end, offer

FULL = events.JobWaited(events.WaitReason.POOL_FULL, "2 of 2 are busy")
SUCCESS = [ADMITTED, FULL, STARTED, CREATED, BOUND, end(Result.SUCCESS, EndReason.COMPLETED, 0), FINISHED]
LOST = [ADMITTED, STARTED, end(Result.ERROR, EndReason.PROVISION_FAILED), FINISHED]
SOMEBODY = places.Reader("ada")
REFUSED = [end(Result.DENIED, EndReason.POLICY_DENIED), FINISHED]


class World:
    """A journal, records as the engine keeps them (changed after the feed has heard), and the page's parts."""

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.journal = MemoryJournal(self.clock)
        self.records: dict[JobId, Record] = {}
        self.left: dict[JobId, list[events.Event]] = {}
        self.between: Callable[[], None] = lambda: None
        """Happens when the feed has heard of a fact and the engine has yet to take it in."""
        deps: Any = SimpleNamespace(
            reader=self.journal,
            engine=SimpleNamespace(record=self.records.get),
            instance="i",
            draining=lambda: False,
            readiness=dict,
            pools=tuple,
            sources=tuple,
            approvals=None,
        )
        self.board = Board(self.journal, self.records.get)
        self.overview = Overview(deps, self.board)
        self.broadcast = Broadcast(deps, self.board, self.overview)
        self.journal.subscribe(self.broadcast.observe)

    async def open(self) -> None:
        await self.overview.open()
        await self.board.open(list(self.records))

    async def offer(self, name: str, story: list[events.Event]) -> JobId:
        made = offer(name, name=f"job {name}")
        self.clock.tick()
        await self._append(made.key.id, events.JobOffered(made))
        self.left[made.key.id] = list(story)
        return made.key.id

    async def step(self, job_id: JobId) -> None:
        if self.left[job_id]:
            self.clock.tick()
            await self._append(job_id, self.left[job_id].pop(0))

    async def _append(self, job_id: JobId, event: events.Event) -> None:
        (fact,) = await self.journal.append([(job_id, event)])
        self.between()
        record = self.records.get(job_id)
        self.records[job_id] = record = applied(record, fact) if record else begin(fact)
        if record.phase is Phase.FINISHED:
            del self.records[job_id]

    async def listed(self, limit: int = 3) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after = ""
        while True:
            page = await self.board.page(after, limit)
            rows += [json.loads(bytes(row)) for row in page.rows]
            after = page.following
            if not after:
                return rows


class Reader:
    """Has the list as a browser has it: read once, and then what it was told."""

    def __init__(self, world: World, listener: Listener) -> None:
        self.world, self.listener = world, listener
        self.rows: dict[str, Any] = {}
        self.last_id = 0
        self.reads = 0

    async def read(self) -> None:
        self.reads += 1
        self.rows = {row["id"]: row for row in await self.world.listed()}

    async def take(self) -> list[str]:
        kinds = []
        for message in ((await self.listener.take(0.01)) or b"").split(b"\n\n"):
            told = dict(line.split(b": ", 1) for line in message.splitlines())
            kind = told.get(b"event", b"").decode()
            kinds += [kind] if kind else []
            self.last_id = int(told.get(b"id", self.last_id))
            if kind == "resync":
                await self.read()
            elif kind == "jobs":
                data = json.loads(told[b"data"])
                self.rows |= {row["id"]: row for row in data["rows"]}
                for gone in data["gone"]:
                    self.rows.pop(gone, None)
        return kinds


async def test_rows_say_where_a_job_stands_and_why() -> None:
    world = World()
    await world.open()
    job_id = await world.offer("a", SUCCESS)
    for phase in ("waiting", "waiting", "provisioning", "binding", "running", "teardown", "finished"):
        await world.step(job_id)
        (row,) = await world.listed()
        assert row["phase"] == phase
        assert row["why"] == why(fold(await world.journal.facts_of(job_id))).sentence
    assert (row["result"], row["reason"], row["source"], row["attempt"]) == ("success", "completed", "dispatch", 1)
    assert row["since"] == row["finished_at"]
    assert "POISON" not in json.dumps(row)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.sampled_from(["offer", "step", "step", "step", "tick", "take", "come back"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whoever_follows_has_the_list(doings: list[str], random: Any) -> None:
    async def play(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boards, "MAX_FINISHED", 3)
        monkeypatch.setattr(broadcasts, "MAX_ROWS", 2)
        monkeypatch.setattr(broadcasts, "MAX_CHANGED", 5)
        world = World()
        old = [await world.offer(f"old-{n}", SUCCESS) for n in range(2)]
        await world.step(old[0])
        for _ in SUCCESS:
            await world.step(old[1])
        await world.open()
        listening = world.broadcast.listen(SOMEBODY, activity=False)
        reader = Reader(world, listening.__enter__())
        await reader.read()
        for number, doing in enumerate(doings):
            if doing == "offer":
                await world.offer(f"new-{number}", random.choice([SUCCESS, LOST, REFUSED]))
            elif doing == "step":
                early = random.random() < 0.3
                world.between = (lambda: world.broadcast.tick(overview=False)) if early else lambda: None
                await world.step(random.choice(list(world.left)))
            elif doing == "tick":
                world.broadcast.tick(overview=False)
            elif doing == "take":
                await reader.take()
            else:
                keeper = world.broadcast.listen(SOMEBODY, activity=False)  # somebody else stays, so that all goes on
                keeper.__enter__()
                listening.__exit__(None, None, None)
                listening = world.broadcast.listen(SOMEBODY, activity=False, after=max(reader.last_id, 1))
                reader.listener = listening.__enter__()
        while world.board.changed or world.board.gone:
            world.broadcast.tick(overview=False)
        await reader.take()
        expected = await world.listed()
        assert reader.rows == {row["id"]: row for row in expected}
        assert [row["offered_at"] for row in expected] == sorted((r["offered_at"] for r in expected), reverse=True)
        assert {row["id"] for row in expected if row["phase"] != "finished"} == set(world.records)
        assert sum(row["phase"] == "finished" for row in expected) <= 3
        for phase in Phase:
            assert world.board.counts[phase] == sum(row["phase"] == phase for row in expected), phase

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(play(monkeypatch))


async def test_whoever_comes_back_is_told_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasts, "MAX_ROWS", 2)
    world = World()
    await world.open()
    with world.broadcast.listen(SOMEBODY, activity=False) as listener:
        reader = Reader(world, listener)
        await world.offer("first", SUCCESS)
        world.broadcast.tick(overview=False)
        for name in ("a", "b", "c"):
            await world.offer(name, SUCCESS)
        world.broadcast.tick(overview=False)
        await reader.take()
        assert len(reader.rows) == 3
        world.broadcast.tick(overview=False)  # the fourth, under the number that the reader has already
        with world.broadcast.listen(SOMEBODY, activity=False, after=reader.last_id) as reader.listener:
            assert await reader.take() == ["overview", "jobs", "jobs"]
        assert len(reader.rows) == 4
        with world.broadcast.listen(SOMEBODY, activity=False, after=1) as reader.listener:
            assert await reader.take() == ["overview", "resync"]


async def test_many_steps_between_two_looks_are_one_row() -> None:
    world = World()
    await world.open()
    with world.broadcast.listen(SOMEBODY, activity=True) as listener:
        reader = Reader(world, listener)
        assert await reader.take() == ["overview"]
        job_id = await world.offer("a", SUCCESS)
        for _ in range(5):
            await world.step(job_id)
        world.broadcast.tick()
        assert await reader.take() == ["jobs", "activity", "overview"]
        assert reader.rows[job_id]["phase"] == "running"
        world.broadcast.tick()
        assert await reader.take() == []


async def test_a_look_between_the_feed_and_the_engine_tells_nothing_old() -> None:
    world = World()
    await world.open()
    with world.broadcast.listen(SOMEBODY, activity=False) as listener:
        reader = Reader(world, listener)
        world.between = lambda: world.broadcast.tick(overview=False)
        job_id = await world.offer("a", SUCCESS)
        for _ in range(5):
            await world.step(job_id)
        world.between = lambda: None
        for _ in range(2):  # a fact that changed nothing is told of the second time
            world.broadcast.tick(overview=False)
        await reader.take()
        assert reader.rows[job_id]["phase"] == "running"
        assert not world.board.changed


async def test_nothing_is_kept_for_nobody() -> None:
    world = World()
    await world.open()
    job_id = await world.offer("a", SUCCESS)
    await world.step(job_id)
    assert not world.board.changed
    with world.broadcast.listen(SOMEBODY, activity=False):
        await world.step(job_id)
        assert list(world.board.changed) == [job_id]
    assert not world.board.changed


async def test_whoever_takes_nothing_reads_the_list_again() -> None:
    listener = Listener(activity=False)
    for _ in range(5):
        listener.put(b"x" * (MAX_HELD_BYTES // 2))
    assert (await listener.take(0.01) or b"").startswith(RESYNC)
    assert await listener.take(0.01) == b""
    listener.end()
    assert await listener.take(1) is None


async def test_pages_that_are_open_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasts, "MAX_LISTENERS", 2)
    monkeypatch.setattr(broadcasts, "RESERVED", 1)
    world = World()
    await world.open()
    nobody, other = places.Reader("", "192.0.2.1"), places.Reader("", "192.0.2.2")
    with world.broadcast.listen(nobody, activity=False):
        with pytest.raises(TryAgainError) as caught, world.broadcast.listen(other, activity=False):
            pass
        assert caught.value.reason == "too_many_streams"
        with world.broadcast.listen(SOMEBODY, activity=False):
            assert world.broadcast.count == 2
    with world.broadcast.listen(other, activity=False):
        pass


async def test_a_defect_is_told_as_a_reason_to_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasts, "TICK_SECONDS", 0.001)
    world = World()
    await world.open()
    monkeypatch.setattr(world.broadcast, "tick", lambda **_: 1 / 0)
    world.broadcast.start()
    with world.broadcast.listen(SOMEBODY, activity=False) as listener:
        async with asyncio.timeout(5):
            assert b"overview" in (await listener.take(5) or b"")
            assert (await listener.take(5) or b"").startswith(RESYNC)
    await world.broadcast.stop()


async def test_activity_is_the_newest_and_says_how_much_it_leaves_out() -> None:
    world = World()
    await world.open()
    with world.broadcast.listen(SOMEBODY, activity=True) as listener:
        await listener.take(0.01)
        job_id = await world.offer("a", [events.AlarmRaised("odd", str(n)) for n in range(30)])
        for _ in range(30):
            await world.step(job_id)
        world.broadcast.tick(overview=False)
        told = (await listener.take(0.01) or b"").split(b"event: activity\ndata: ")[1].split(b"\n")[0]
        activity = msgspec.json.decode(told)
    assert activity["omitted"] == 5
    assert [item["detail"] for item in activity["items"]] == [str(n) for n in range(5, 30)]
    assert {item["job_name"] for item in activity["items"]} == {"job a"}
    assert world.overview.document()["alarms"][0]["detail"] == "29"
    again = World()
    again.journal = again.overview._deps.reader = world.journal
    await again.overview.open()
    assert len(again.overview.document()["alarms"]) == 20


def test_ends_are_counted_for_an_hour() -> None:
    now = [7_200 * 10**9]
    ends = RecentEnds(lambda: now[0])
    ends.add("success", now[0] - 3_700 * 10**9)
    ends.add("success", now[0] - 3_000 * 10**9)
    ends.add("failure", now[0])
    assert (ends.counts()["success"], ends.counts()["failure"]) == (1, 1)
    now[0] += 3_000 * 10**9
    assert (ends.counts()["success"], ends.counts()["failure"]) == (0, 1)
