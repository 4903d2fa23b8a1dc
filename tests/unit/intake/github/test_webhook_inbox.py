"""The inbox: durable, each delivery once, replays under another name found out, bounded."""

from __future__ import annotations

import asyncio
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.intake.github.webhooks.delivery import JobHint
from orchestrator.intake.github.webhooks.inbox import REMEMBER_SECONDS, WebhookInbox


def hint(number: int, **changes) -> JobHint:
    made = JobHint(f"delivery-{number}", number.to_bytes(32, "big"), "queued", "acme", "shop", 9001, number)
    return replace(made, **changes)


class Clock:
    ns = 1_800_000_000 * 1_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def step(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def opened(tmp_path, clock):
    made: list[WebhookInbox] = []

    def make(path: Path = tmp_path / "inbox.sqlite", **bounds: int) -> WebhookInbox:
        made.append(WebhookInbox(path, clock.now_ns, **({"max_waiting": 100} | bounds)))
        return made[-1]

    yield make
    for inbox in made:
        await inbox.close()


async def test_a_delivery_is_new_once(opened, tmp_path):
    inbox = opened()
    assert await inbox.put(hint(1))
    assert not await inbox.put(hint(1))
    assert list(await inbox.pending(10)) == [hint(1)]
    assert inbox.waiting == 1
    assert stat.S_IMODE((tmp_path / "inbox.sqlite").stat().st_mode) == 0o600


async def test_a_replay_under_another_id_is_known(opened):
    inbox = opened()
    await inbox.put(hint(1))
    assert not await inbox.put(hint(1, delivery="somebody-elses-id"))
    assert not await inbox.put(hint(2, delivery="delivery-1"))
    await inbox.done(["delivery-1"])
    assert not await inbox.put(hint(1, delivery="yet-another-id"))
    assert await inbox.pending(10) == []


async def test_what_was_taken_in_survives_a_kill(opened, tmp_path):
    inbox = opened()
    for number in (1, 2, 3):
        await inbox.put(hint(number))
    await inbox.done(["delivery-2"])
    # What a kill leaves: the files as they are at this moment, without a close.
    copy = tmp_path / "after"
    copy.mkdir()
    for file in tmp_path.glob("inbox.sqlite*"):
        (copy / file.name).write_bytes(file.read_bytes())
    other = opened(copy / "inbox.sqlite")
    assert other.waiting == 2
    await asyncio.wait_for(other.arrival(), 1)
    assert [one.job_id for one in await other.pending(10)] == [1, 3]
    assert not await other.put(hint(2))


async def test_arrival_waits_for_something_pending(opened):
    inbox = opened()
    assert await inbox.pending(10) == []
    waiter = asyncio.create_task(inbox.arrival())
    await asyncio.sleep(0)
    assert not waiter.done()
    await inbox.put(hint(1))
    await asyncio.wait_for(waiter, 1)
    await asyncio.wait_for(inbox.arrival(), 1)
    await inbox.pending(10)
    await asyncio.wait_for(inbox.arrival(), 1)  # until it was looked into
    await inbox.done(["delivery-1"])
    assert await inbox.pending(10) == []


async def test_what_is_put_off_lets_others_go_first(opened):
    inbox = opened()
    for number in (1, 2, 3):
        await inbox.put(hint(number))
    await inbox.put_off(["delivery-1", "delivery-2"])
    assert [one.job_id for one in await inbox.pending(10)] == [3, 1, 2]
    await inbox.done(["delivery-3"])
    await inbox.put_off(["delivery-3"])
    assert [one.job_id for one in await inbox.pending(10)] == [1, 2]
    assert inbox.waiting == 2


async def test_no_more_wait_than_may(opened):
    inbox = opened(max_waiting=2)
    await inbox.put(hint(1))
    await inbox.put(hint(2))
    with pytest.raises(TryAgainError) as caught:
        await inbox.put(hint(3))
    assert caught.value.reason == "webhook_inbox_full"
    assert caught.value.retry_after_seconds
    await inbox.done(["delivery-1"])
    assert await inbox.put(hint(3))


async def test_memory_is_bounded_by_age_and_number_and_never_loses_what_waits(opened, clock):
    inbox = opened(max_remembered=3)
    await inbox.put(hint(100))  # never looked into
    for number in range(10):
        await inbox.put(hint(number))
        await inbox.done([f"delivery-{number}"])
    known = [number for number in range(10) if await inbox.knows(f"delivery-{number}")]
    assert known == [7, 8, 9]
    clock.step(REMEMBER_SECONDS + 1)
    await inbox.done([])
    assert not await inbox.knows("delivery-9")
    assert [one.job_id for one in await inbox.pending(10)] == [100]


async def test_many_at_once_are_each_kept_once(opened):
    inbox = opened(max_waiting=1000)
    news = await asyncio.gather(*(inbox.put(hint(number % 50)) for number in range(200)))
    assert sum(news) == 50
    assert inbox.waiting == 50


async def test_a_caller_that_gives_up_leaves_the_inbox_whole(opened):
    inbox = opened()
    task = asyncio.create_task(inbox.put(hint(1)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await inbox.put(hint(2))
    assert inbox.waiting == len(await inbox.pending(10))


async def test_what_could_not_be_looked_at_is_looked_at_again(opened):
    """Nobody else may come to tell of it."""
    inbox = opened()
    await inbox.put(hint(1))
    await inbox._run(lambda: inbox._database.execute("ALTER TABLE delivery RENAME TO away"))
    with pytest.raises(TryAgainError):
        await inbox.pending(10)
    await inbox._run(lambda: inbox._database.execute("ALTER TABLE away RENAME TO delivery"))
    async with asyncio.timeout(5):
        await inbox.arrival()
    assert await inbox.pending(10) == [hint(1)]


async def test_what_a_caller_gave_up_is_looked_at_though_nothing_more_comes(opened):
    inbox = opened()
    inserting, gate = threading.Event(), threading.Event()
    insert = inbox._insert

    def held(one):
        inserting.set()
        gate.wait(20)
        return insert(one)

    inbox._insert = held
    task = asyncio.create_task(inbox.put(hint(1)))
    await asyncio.to_thread(inserting.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    assert not await inbox.put(hint(1))  # the platform's repetition
    async with asyncio.timeout(5):
        await inbox.arrival()
    assert await inbox.pending(10) == [hint(1)]


async def test_closing_waits_for_what_is_written_and_holds_up_nobody(opened, tmp_path):
    inbox, gate = opened(), threading.Event()
    inbox._thread.submit(gate.wait, 20)
    written = asyncio.create_task(inbox.put(hint(1)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(inbox.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert await written
    assert opened().waiting == 1


async def test_a_disk_that_fails_takes_nothing_in(opened):
    inbox = opened()
    # What SQLite says when the disk is full, for real: the file may not grow any more.
    await inbox._run(lambda: inbox._database.execute("PRAGMA max_page_count = 1"))
    with pytest.raises(TryAgainError) as caught:
        await asyncio.gather(*(inbox.put(hint(number, owner="a" * 2000)) for number in range(50)))
    assert caught.value.reason == "webhook_inbox_unwritable"
    assert inbox.waiting == len(await inbox.pending(1000))


async def test_a_file_that_is_no_inbox_is_refused(opened, tmp_path):
    (tmp_path / "bad").write_bytes(b"not a database at all" * 100)
    with pytest.raises(ConfigurationError) as caught:
        opened(tmp_path / "bad")
    assert caught.value.reason == "webhook_inbox_unusable"
    with pytest.raises(ConfigurationError):
        opened(tmp_path / "no" / "such" / "folder")
