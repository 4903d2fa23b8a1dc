"""The room as a whole: a journal on disk on one side, a receiver on the other."""

import asyncio
import contextlib
import sqlite3
import ssl
import time

import pytest

from orchestrator.daemon.clock import SystemClock
from orchestrator.errors import TryAgainError
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.model import events as e
from orchestrator.notifications import follower, sender
from orchestrator.notifications import notifier as notifier_module
from orchestrator.notifications.endpoint import Filter
from orchestrator.notifications.notifier import Notifier
from orchestrator.notifications.outbox import Bounds
from orchestrator.testing import stories
from orchestrator.testing.hook_receiver import HookFault, HookReceiver
from orchestrator.testing.stories import WHOLE, offer
from tests.unit.notifications.plain import endpoint, near, quick

JOB = offer().key.id
ENDS = Filter(("job.ended",))


class Plant:
    """A journal and, on it, one notifier after the other, as daemons come and go."""

    def __init__(self, folder, schedule=None, bounds=Bounds()):  # noqa: B008 -- frozen
        self.folder, self.schedule, self.bounds = folder, schedule or quick(), bounds
        self.clock = SystemClock()

    async def __aenter__(self):
        self.journal = await SqliteJournal.open(self.folder / "journal.db", self.clock)
        return self

    async def __aexit__(self, *_):
        await self.journal.close()

    @contextlib.asynccontextmanager
    async def notifier(self, *endpoints, flush_seconds=3.0, mask=str):
        around = near(self.journal, self.clock.now_ns, self.schedule, mask)
        notifier = await Notifier.open(self.folder / "notifications.db", endpoints, self.bounds, around)
        unsubscribe = self.journal.subscribe(notifier.observe)
        notifier.start()
        try:
            yield notifier
        finally:
            unsubscribe()
            await notifier.stop(flush_seconds)

    async def happen(self, steps, the_offer=None):
        the_offer = the_offer or offer()
        await self.journal.append([(the_offer.key.id, event) for event in (e.JobOffered(the_offer), *steps)])

    async def jobs(self, count, start=0):
        for number in range(start, start + count):
            await self.happen(WHOLE["failure"], offer(str(number)))


@pytest.fixture
async def plant(tmp_path):
    async with Plant(tmp_path) as plant:
        yield plant


def types(hooks):
    return [hook.json["type"] for hook in hooks]


def numbers(hooks):
    return [hook.json["sequence"] for hook in hooks]


async def until(fits, seconds=10):
    async with asyncio.timeout(seconds):
        while not fits():
            await asyncio.sleep(0.005)


async def test_what_happens_is_told_once_and_numbered_in_its_order(plant):
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url)) as notifier:
        await plant.happen(WHOLE["success"])
        await receiver.wait_for(9)
        told = sorted(receiver.taken, key=lambda hook: hook.json["sequence"])
        assert numbers(told) == list(range(1, 10))
        assert types(told)[0] == "job.queued"
        assert types(told)[-1] == "job.finished"
        seqs = [hook.json["data"]["seq"] for hook in told]
        assert seqs == sorted(seqs)
        await until(lambda: notifier.state("ops").waiting == 0)
        state = notifier.state("ops")
        assert (state.delivered, state.failed, state.dropped, state.failing) == (9, 0, 0, None)


async def test_a_first_start_tells_nothing_of_before_and_a_later_one_all_that_was_missed(plant):
    await plant.happen(WHOLE["failure"], offer("1"))
    async with HookReceiver() as receiver:
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)):
            await plant.happen(WHOLE["failure"], offer("2"))
            await receiver.wait_for(1)
        await plant.happen(WHOLE["failure"], offer("3"))  # no notifier is there
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)):
            await receiver.wait_for(2)
        assert [hook.json["data"]["job"]["id"] for hook in receiver.taken] == ["dispatch.2.1", "dispatch.3.1"]
        assert numbers(receiver.taken) == [1, 2]


async def test_a_job_that_began_before_is_told_with_its_name(plant):
    """Its offer is not among the facts that are read: its context comes from the journal."""
    await plant.happen([stories.ADMITTED])
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url)):
        await plant.journal.append([(JOB, e.JobCancelRequested("operator"))])
        await receiver.wait_for(1)
        assert receiver.taken[0].json["data"]["job"]["name"] == "build"


async def test_an_unanswered_message_comes_again_with_the_same_id(plant):
    async with HookReceiver() as receiver:
        receiver.faults += [HookFault.UNAVAILABLE, HookFault.LOST, HookFault.RESET]
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.happen(WHOLE["failure"])
            await receiver.wait_for(2)
            await until(lambda: notifier.state("ops").waiting == 0)
            assert len({hook.id for hook in receiver.seen}) == 1
            assert len({hook.body for hook in receiver.seen}) == 1
            assert notifier.state("ops").failed == 3
            assert notifier.state("ops").failing is None


async def test_killed_between_taken_and_noted_the_next_daemon_repeats_the_message(plant):
    async with HookReceiver() as receiver:
        receiver.always = HookFault.HANG
        around = near(plant.journal, plant.clock.now_ns, plant.schedule)
        path = plant.folder / "notifications.db"
        killed = await Notifier.open(path, [endpoint(receiver.url, filter=ENDS)], Bounds(), around)
        plant.journal.subscribe(killed.observe)
        killed.start()
        await plant.happen(WHOLE["failure"])
        await receiver.wait_until(lambda receiver: len(receiver.seen) == 1)
        await killed.stop(flush_seconds=0)  # cut off: its own answer never counts
        receiver.always = None
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)):
            await receiver.wait_for(1)
        assert receiver.taken[0].id == receiver.seen[0].id


async def test_a_dead_endpoint_delays_neither_the_journal_nor_another(plant):
    async with HookReceiver() as dead, HookReceiver() as alive:
        dead.always = HookFault.HANG
        slow = endpoint(dead.url, "slow", filter=ENDS, timeout_seconds=30.0)
        async with plant.notifier(slow, endpoint(alive.url, "quick", filter=ENDS), flush_seconds=0.1) as notifier:
            begun = time.monotonic()
            await plant.jobs(20)
            await alive.wait_for(20)
            assert time.monotonic() - begun < 10, "far less than one time-out of the other"
            assert notifier.state("slow").waiting == 20
            assert len(dead.seen) <= 4


async def test_a_failing_endpoint_is_left_in_peace_and_gets_all_when_it_works_again(tmp_path):
    async with (
        Plant(tmp_path, quick(0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05)) as plant,
        HookReceiver() as receiver,
    ):
        receiver.always = HookFault.UNAVAILABLE
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(12)
            await receiver.wait_until(lambda receiver: len(receiver.seen) >= 6)
            state = notifier.state("ops")
            assert state.failing.reason == "endpoint_busy"
            assert state.waiting == 12
            assert len({hook.id for hook in receiver.seen}) >= 6, "each look is made with a message not tried before"
            receiver.always = None
            await receiver.wait_for(12)
            await until(lambda: notifier.state("ops").waiting == 0)
            assert notifier.state("ops").failing is None
            assert sorted(numbers(receiver.taken)) == list(range(1, 13))


async def test_a_message_that_its_receiver_cannot_stand_holds_up_no_other_and_is_given_up(tmp_path):
    async with Plant(tmp_path, quick(0.01, 0.01, 0.01)) as plant, HookReceiver() as receiver:
        receiver.poison.add(b"dispatch.1.1")
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(6)
            await receiver.wait_for(5)
            await until(lambda: notifier.state("ops").waiting == 0)
            state = notifier.state("ops")
            assert (state.delivered, state.failed, state.dropped, state.dropped_ever) == (5, 4, 1, 1)
            assert 2 not in numbers(receiver.taken), "the gap in the numbers tells of it"


async def test_an_endpoint_that_is_gone_is_disabled_until_it_is_enabled(plant):
    async with HookReceiver() as receiver:
        receiver.always = HookFault.GONE
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(2)
            await until(lambda: notifier.state("ops").disabled == "endpoint_gone")
            seen = len(receiver.seen)
            await plant.jobs(2, start=10)
            await until(lambda: notifier.lag == 0)
            assert len(receiver.seen) == seen
            assert notifier.state("ops").waiting == 0
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            assert notifier.state("ops").disabled == "endpoint_gone"
            receiver.always = None
            await notifier.retry("ops")
            await plant.jobs(1, start=20)
            await receiver.wait_for(1)
            assert notifier.state("ops").disabled == ""


async def test_retry_does_not_wait_for_the_schedule(tmp_path):
    async with Plant(tmp_path, quick(3600)) as plant, HookReceiver() as receiver:
        receiver.faults.append(HookFault.RATE_LIMITED)
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(1)
            await until(lambda: notifier.state("ops").failing is not None)
            state = notifier.state("ops")
            assert state.next_try_ns > plant.clock.now_ns() + 200 * 10**9
            await notifier.retry("ops")
            await receiver.wait_for(1)


async def test_a_test_message_passes_by_what_waits(tmp_path):
    async with Plant(tmp_path, quick(3600)) as plant, HookReceiver() as receiver:
        receiver.faults.append(HookFault.UNAVAILABLE)
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(1)
            await until(lambda: notifier.state("ops").failing is not None)
            message_id, delivery = await notifier.trial("ops")
            assert delivery.delivered
            assert (receiver.taken[0].id, receiver.taken[0].json["type"]) == (message_id, "notification.test")
            assert notifier.state("ops").failing is None, "it works again"


async def test_more_than_the_feed_can_hold_is_read_from_the_journal(plant, monkeypatch):
    monkeypatch.setattr(follower, "MAX_HELD", 10)
    monkeypatch.setattr(follower, "PAGE", 7)
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url, filter=ENDS)):
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(plant.happen(WHOLE["failure"], offer(str(number))))
        await receiver.wait_for(40)
        assert sorted(numbers(receiver.taken)) == list(range(1, 41))
        assert len({hook.id for hook in receiver.taken}) == 40


async def test_an_outbox_that_cannot_be_written_loses_nothing(plant, monkeypatch):
    monkeypatch.setattr(follower, "_AGAIN_SECONDS", 0.02)
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
        connection = notifier._outbox._connection
        await asyncio.to_thread(connection.execute, "PRAGMA query_only = 1")
        await plant.jobs(3)
        await until(lambda: notifier.lag > 0)
        await asyncio.to_thread(connection.execute, "PRAGMA query_only = 0")
        await receiver.wait_for(3)
        assert numbers(receiver.taken) == [1, 2, 3]


async def test_what_was_taken_is_not_sent_again_because_the_disk_is_full(plant, monkeypatch):
    """Taking a message out needs room too, and until there is some no other is sent either."""
    monkeypatch.setattr(sender, "_STORE_AGAIN_SECONDS", 0.01)
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
        with contextlib.closing(sqlite3.connect(plant.folder / "notifications.db")) as broken:
            broken.execute(
                "CREATE TRIGGER full BEFORE DELETE ON messages BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
            )
            broken.commit()
            tried = count_calls(monkeypatch, notifier._outbox, "settle")
            await plant.jobs(1)
            await receiver.wait_for(1)
            await until(lambda: len(tried) >= 4)
            await plant.jobs(1, start=1)
            await until(lambda: notifier.state("ops").waiting == 2)
            before = len(tried)
            await until(lambda: len(tried) >= before + 3)
            assert len(receiver.seen) == 1
            broken.execute("DROP TRIGGER full")
            broken.commit()
        await receiver.wait_for(2)
        assert [hook.json["sequence"] for hook in receiver.taken] == [1, 2]
        await until(lambda: notifier.state("ops").waiting == 0)
        assert notifier.state("ops").delivered == 2


def count_calls(monkeypatch, thing, name):
    """The calls of a method, which is done all the same."""
    calls, method = [], getattr(thing, name)

    async def counted(*given):
        calls.append(given)
        return await method(*given)

    monkeypatch.setattr(thing, name, counted)
    return calls


async def test_texts_for_people_are_told_of_what_this_daemon_saw_happen_only(plant):
    async with HookReceiver() as receiver:
        talkative = endpoint(receiver.url, filter=ENDS, sentences=True)
        async with plant.notifier(talkative):
            await plant.jobs(1)
            await receiver.wait_for(1)
        await plant.jobs(1, start=1)
        async with plant.notifier(talkative):
            await receiver.wait_for(2)
        told = [hook.json["data"].get("message") for hook in receiver.taken]
        assert told == ["what happened", None]


async def test_a_name_that_is_no_text_keeps_only_itself_from_being_told(plant):
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url, filter=ENDS), mask=_broken) as _:
        await plant.happen(WHOLE["failure"], offer("1", name="broken"))
        await plant.happen(WHOLE["failure"], offer("2"))
        await receiver.wait_for(1)
        assert receiver.taken[0].json["data"]["job"]["id"] == "dispatch.2.1"
        assert numbers(receiver.taken) == [1], "no number is used up"


def _broken(text):
    return "\ud800" if text == "broken" else text


async def test_a_journal_that_was_put_back_is_followed_from_its_end(plant):
    async with HookReceiver() as receiver:
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)):
            await plant.jobs(2)
            await receiver.wait_for(2)
        await plant.journal.close()
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            (plant.folder / name).unlink(missing_ok=True)
        plant.journal = await SqliteJournal.open(plant.folder / "journal.db", plant.clock)
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)):
            await plant.jobs(1)
            await receiver.wait_for(3)
        assert numbers(receiver.taken) == [1, 2, 3]
        assert receiver.taken[0].json["data"]["seq"] == receiver.taken[2].json["data"]["seq"]
        assert len({hook.id for hook in receiver.taken}) == 3, "no receiver takes one for the other"


async def test_what_nobody_wants_is_neither_written_nor_sent(plant):
    async with HookReceiver() as receiver, plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
        await plant.happen([stories.ADMITTED])
        await until(lambda: notifier.lag == 0)
        before = notifier._outbox._connection.total_changes
        await plant.happen([stories.ADMITTED, stories.STARTED, stories.CREATED], offer("2"))
        await until(lambda: notifier.lag == 0)
        assert notifier._outbox._connection.total_changes == before
        assert receiver.seen == []


async def test_a_flood_of_dropped_messages_is_one_alarm(tmp_path, capsys):
    async with Plant(tmp_path, quick(3600), Bounds(messages=2)) as plant, HookReceiver() as receiver:
        receiver.always = HookFault.UNAVAILABLE
        async with plant.notifier(endpoint(receiver.url, filter=ENDS)) as notifier:
            await plant.jobs(12)
            await until(lambda: notifier.state("ops").dropped == 10)
            assert notifier.state("ops").waiting == 2
        assert capsys.readouterr().out.count("notifications_dropped") == 1


async def change(notifier, *endpoints, bounds=Bounds()):  # noqa: B008 -- frozen
    await notifier.prepare(endpoints)
    notifier.change(endpoints, bounds, {})


async def test_endpoints_come_and_go_while_it_runs(plant):
    async with HookReceiver() as ops, HookReceiver() as dev:
        first, second = endpoint(ops.url, filter=ENDS), endpoint(dev.url, "dev", filter=ENDS)
        async with plant.notifier(first) as notifier:
            await plant.jobs(1)
            await ops.wait_for(1)
            await change(notifier, first, second)
            await plant.jobs(1, start=1)
            await ops.wait_for(2)
            await dev.wait_for(1)
            assert numbers(dev.taken) == [1], "of what was before it, it is not told"
            await change(notifier, second)
            assert notifier.names == ("dev",)
            await plant.jobs(1, start=2)
            await dev.wait_for(2)
            await change(notifier, first, second)
            await plant.jobs(1, start=3)
            await ops.wait_for(3)
            assert numbers(ops.taken) == [1, 2, 1], "it is another endpoint by now"
        with contextlib.closing(sqlite3.connect(plant.folder / "notifications.db")) as kept:
            assert kept.execute("SELECT name FROM endpoints ORDER BY 1").fetchall() == [("dev",), ("ops",)]
            assert kept.execute("SELECT count(*) FROM messages").fetchone() == (0,)


async def test_what_waits_goes_to_the_new_address_of_its_endpoint(plant):
    async with HookReceiver() as dead, HookReceiver() as new:
        dead.always = HookFault.UNAVAILABLE
        async with plant.notifier(endpoint(dead.url, filter=ENDS)) as notifier:
            await plant.jobs(2)
            await until(lambda: notifier.state("ops").waiting == 2)
            await change(notifier, endpoint(new.url, filter=ENDS))
            await new.wait_for(2)
            assert sorted(numbers(new.taken)) == [1, 2]
            await until(lambda: notifier.state("ops").failing is None)


async def test_an_endpoint_that_had_enough_is_told_at_its_new_address(plant):
    async with HookReceiver() as gone, HookReceiver() as new:
        gone.always = HookFault.GONE
        async with plant.notifier(endpoint(gone.url, filter=ENDS)) as notifier:
            await plant.jobs(1)
            await until(lambda: notifier.state("ops").disabled)
            await change(notifier, endpoint(new.url, filter=ENDS))
            await until(lambda: not notifier.state("ops").disabled)
            await plant.jobs(1, start=1)
            await new.wait_for(1)


async def test_a_message_on_its_way_is_waited_for_when_its_endpoint_changes(plant):
    """With another filter it is still the same receiver: what it is just taking is not sent to it twice."""
    async with HookReceiver() as slow:
        slow.always = HookFault.HANG
        async with plant.notifier(endpoint(slow.url, filter=ENDS)) as notifier:
            await plant.jobs(1)
            await until(lambda: slow.seen)
            await change(notifier, endpoint(slow.url, filter=Filter(("job.*",))))
            slow.always = None
            slow.release()
            await until(lambda: notifier.state("ops").waiting == 0)
            assert len(slow.seen) == 1


async def test_what_the_old_address_says_late_is_not_said_of_the_new_one(plant):
    async with HookReceiver() as gone, HookReceiver() as new:
        gone.always = HookFault.LATE_GONE
        async with plant.notifier(endpoint(gone.url, filter=ENDS)) as notifier:
            await plant.jobs(1)
            await gone.wait_until(lambda gone: gone.seen)
            await change(notifier, endpoint(new.url, filter=ENDS))
            gone.release()
            await new.wait_for(1)
            state = notifier.state("ops")
            assert (state.disabled, state.failing) == ("", None)


async def test_certificates_of_its_own_are_taken_back(plant, monkeypatch):
    """Which ones a try trusts is tested with the client; here is whether the endpoint is made anew."""
    made = []

    class Poster(notifier_module.Poster):
        def __init__(self, endpoint, public, tls=None):
            made.append(tls)
            super().__init__(endpoint, public, tls)

    monkeypatch.setattr(notifier_module, "Poster", Poster)
    own = ssl.create_default_context()
    async with HookReceiver() as ops, plant.notifier(endpoint(ops.url, filter=ENDS)) as notifier:
        for tls in ({"ops": own}, {}, {}):
            await notifier.prepare([endpoint(ops.url, filter=ENDS)])
            notifier.change([endpoint(ops.url, filter=ENDS)], plant.bounds, tls)
        assert made == [None, own, None], "and not again when nothing changes"


async def test_a_change_that_cannot_be_stored_is_refused_and_changes_nothing(plant):
    async with HookReceiver() as ops, HookReceiver() as dev:
        first, second = endpoint(ops.url, filter=ENDS), endpoint(dev.url, "dev", filter=ENDS)
        async with plant.notifier(first) as notifier:
            with contextlib.closing(sqlite3.connect(plant.folder / "notifications.db")) as broken:
                broken.execute(
                    "CREATE TRIGGER full BEFORE INSERT ON endpoints BEGIN SELECT RAISE(FAIL, 'no room'); END"
                )
                broken.commit()
                with pytest.raises(TryAgainError) as caught:
                    await notifier.prepare([first, second])
                assert caught.value.reason == "notifications_unwritable"
                broken.execute("DROP TRIGGER full")
                broken.commit()
            assert notifier.names == ("ops",)
            await plant.jobs(1)
            await ops.wait_for(1)
            await change(notifier, first, second)
            await plant.jobs(1, start=1)
            await dev.wait_for(1)


async def test_what_cannot_be_tidied_up_is_left_to_the_next_start(plant, capsys):
    async with HookReceiver() as ops, HookReceiver() as dev:
        ops.always = HookFault.UNAVAILABLE
        second = endpoint(dev.url, "dev", filter=ENDS)
        async with plant.notifier(endpoint(ops.url, filter=ENDS), second) as notifier:
            await plant.jobs(1)
            await dev.wait_for(1)
            await until(lambda: notifier.state("ops").waiting == 1)
            with contextlib.closing(sqlite3.connect(plant.folder / "notifications.db")) as broken:
                broken.execute(
                    "CREATE TRIGGER full BEFORE DELETE ON messages WHEN old.endpoint = 'ops'"
                    " BEGIN SELECT RAISE(FAIL, 'no room'); END"
                )
                broken.commit()
                await change(notifier, second)
                await until(lambda: "notifications_untidy" in capsys.readouterr().out)
                await plant.jobs(1, start=1)
                await dev.wait_for(2)
                broken.execute("DROP TRIGGER full")
                broken.commit()
        async with plant.notifier(second):
            pass
        with contextlib.closing(sqlite3.connect(plant.folder / "notifications.db")) as kept:
            assert kept.execute("SELECT name FROM endpoints").fetchall() == [("dev",)]
            assert kept.execute("SELECT count(*) FROM messages").fetchone() == (0,)
