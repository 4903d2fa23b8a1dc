import contextlib
import sqlite3
import stat

import pytest

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.notifications.outbox import Bounds, Outbox, Results
from orchestrator.notifications.schedule import LONGEST_DELAY_NS, SECOND
from tests.unit.notifications.plain import endpoint, message

OPS, DEV = endpoint("https://ops.example/hooks"), endpoint("https://dev.example/hooks", "dev")


async def opened(path, endpoints=(OPS,), bounds=Bounds()):  # noqa: B008 -- frozen
    return await Outbox.open(path / "notifications.db", endpoints, bounds)


async def numbers(outbox, name="ops", now=10**18, limit=100):
    return [due.message.number for due in await outbox.due(name, now, limit)]


async def test_what_is_stored_is_there_after_a_restart(tmp_path):
    first = await opened(tmp_path, (OPS, DEV))
    assert first.cursor is None
    rows = [("ops", message(1, b"one")), ("dev", message(1, b"other")), ("ops", message(2, b"two"))]
    assert await first.add(rows, 17) == {}
    origin = first.origin
    await first.close()
    second = await opened(tmp_path, (OPS, DEV))
    assert (second.cursor, second.origin) == (17, origin)
    due = await second.due("ops", 0, 10)
    assert [one.message for one in due] == [message(1, b"one"), message(2, b"two")]
    assert second.shelves["ops"].number == 2
    assert second.shelves["ops"].waiting == 2
    assert second.shelves["dev"].waiting == 1
    assert stat.S_IMODE((tmp_path / "notifications.db").stat().st_mode) == 0o600
    await second.close()


async def test_what_was_tried_least_comes_first(tmp_path):
    outbox = await opened(tmp_path)
    await outbox.add([("ops", message(number)) for number in (1, 2, 3)], 3)
    await outbox.settle("ops", Results(retry={1: (1, 50)}), 10)
    assert await numbers(outbox, now=49) == [2, 3]
    assert await numbers(outbox, now=50) == [2, 3, 1]
    await outbox.settle("ops", Results(gone=[2, 3]), 10)
    assert await outbox.next_ns("ops") == 50
    await outbox.settle("ops", Results(gone=[1]), 10)
    assert await outbox.next_ns("ops") is None
    assert outbox.shelves["ops"].waiting == outbox.shelves["ops"].bytes == outbox.shelves["ops"].oldest_ns == 0
    await outbox.close()


@pytest.mark.parametrize("bounds", [Bounds(messages=3), Bounds(bytes=4000)], ids=["messages", "bytes"])
async def test_what_goes_beyond_the_bounds_is_dropped_the_oldest_first(tmp_path, bounds):
    outbox = await opened(tmp_path, (OPS, DEV), bounds)
    await outbox.add([("dev", message(1, b"x" * 1000))], 1)
    assert await outbox.add([("ops", message(number, b"x" * 1000)) for number in range(1, 4)], 3) == {}
    assert await outbox.add([("ops", message(number, b"x" * 1000)) for number in range(4, 6)], 5) == {"ops": 2}
    assert await numbers(outbox) == [3, 4, 5]
    assert await numbers(outbox, "dev") == [1], "each endpoint has its own bounds"
    assert outbox.shelves["ops"].dropped_ever == 2
    await outbox.close()
    again = await opened(tmp_path, (OPS, DEV), bounds)
    assert again.shelves["ops"].dropped_ever == 2
    assert again.shelves["ops"].number == 5
    await again.close()


async def test_what_is_too_old_is_dropped(tmp_path):
    outbox = await opened(tmp_path, bounds=Bounds(age_seconds=10))
    await outbox.add([("ops", message(1, at_ns=1)), ("ops", message(2, at_ns=5 * 10**9))], 2)
    assert await outbox.expire("ops", 10**10) == 0
    assert await outbox.expire("ops", 12 * 10**9) == 1
    assert await numbers(outbox) == [2]
    await outbox.close()


async def test_an_endpoint_that_is_gone_loses_what_waits_until_it_is_enabled(tmp_path):
    outbox = await opened(tmp_path)
    await outbox.add([("ops", message(1)), ("ops", message(2))], 2)
    await outbox.settle("ops", Results(retry={1: (1, 50)}, disabled="endpoint_gone"), 40)
    shelf = outbox.shelves["ops"]
    assert (shelf.disabled, shelf.disabled_ns, shelf.waiting, shelf.dropped_ever) == ("endpoint_gone", 40, 0, 2)
    await outbox.close()
    again = await opened(tmp_path)
    assert again.shelves["ops"].disabled == "endpoint_gone"
    await again.enable("ops")
    assert again.shelves["ops"].disabled == ""
    await again.close()
    moved = await opened(tmp_path)
    await moved.settle("ops", Results(disabled="endpoint_gone"), 40)
    await moved.close()
    other = await opened(tmp_path, (endpoint("https://elsewhere.example/hooks"),))
    assert other.shelves["ops"].disabled == "", "what the old address said is not the new one's word"
    await other.close()


async def test_an_endpoint_that_is_no_more_takes_its_messages_with_it(tmp_path):
    outbox = await opened(tmp_path, (OPS, DEV))
    await outbox.add([("ops", message(1)), ("dev", message(1))], 2)
    await outbox.close()
    await (await opened(tmp_path, (DEV,))).close()
    back = await opened(tmp_path, (OPS, DEV))
    assert await numbers(back) == []
    assert await numbers(back, "dev") == [1]
    assert back.shelves["ops"].number == 0
    await back.close()


async def test_a_clock_that_was_set_back_puts_no_message_off_for_longer_than_any_delay(tmp_path):
    outbox = await opened(tmp_path)
    await outbox.add([("ops", message(1)), ("ops", message(2))], 2)
    now = 1_000 * 86400 * SECOND
    await outbox.settle("ops", Results(retry={1: (1, now + LONGEST_DELAY_NS), 2: (1, now + 40 * 86400 * SECOND)}), now)
    assert await numbers(outbox, now=now) == [2]
    await outbox.close()


async def test_an_outbox_that_cannot_be_written_at_the_start_is_told_and_closed(tmp_path):
    await (await opened(tmp_path)).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "notifications.db")) as broken:
        broken.execute("CREATE TRIGGER full BEFORE INSERT ON endpoints BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
        broken.commit()
    with pytest.raises(ConfigurationError, match="disk is full") as caught:
        await opened(tmp_path, (OPS, DEV))
    assert caught.value.reason == "notifications_unusable"


async def test_what_is_given_up_is_counted_once_though_it_was_noted_twice(tmp_path):
    """The first time the disk was full in the midst of it."""
    outbox = await opened(tmp_path)
    await outbox.add([("ops", message(1)), ("ops", message(2))], 2)
    results = Results(disabled="endpoint_gone", retry={1: (1, 50)})
    with contextlib.closing(sqlite3.connect(tmp_path / "notifications.db")) as broken:
        broken.execute(
            "CREATE TRIGGER full BEFORE UPDATE OF dropped ON endpoints BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
        broken.commit()
        with pytest.raises(TryAgainError):
            await outbox.settle("ops", results, 40)
        broken.execute("DROP TRIGGER full")
        broken.commit()
    assert await outbox.settle("ops", results, 40) == 2
    assert outbox.shelves["ops"].dropped_ever == 2
    await outbox.close()


async def test_where_nobody_is_left_of_those_who_were_told_the_next_begin_at_the_end(tmp_path):
    outbox = await opened(tmp_path, (OPS, DEV))
    await outbox.add([("ops", message(1))], 17)
    origin = outbox.origin
    await outbox.close()
    for endpoints, cursor in (((DEV,), 17), ((), None), ((DEV,), None)):
        again = await opened(tmp_path, endpoints)
        assert (again.cursor, again.origin) == (cursor, origin)
        await again.close()


async def test_a_write_that_fails_changes_nothing(tmp_path):
    outbox = await opened(tmp_path)
    await outbox.add([("ops", message(1))], 1)
    with pytest.raises(TryAgainError) as caught:
        await outbox.add([("ops", message(2)), ("ops", message(1))], 9)  # the second number is taken
    assert caught.value.reason == "notifications_unwritable"
    assert await numbers(outbox) == [1]
    assert outbox.shelves["ops"].waiting == 1
    await outbox.close()
    again = await opened(tmp_path)
    assert again.cursor == 1
    await again.close()


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be one" * 20, b"SQLite format 3\x00" + b"\xff" * 4096]
)
async def test_a_damaged_file_stops_the_start_and_stays_as_it_is(tmp_path, content):
    (tmp_path / "notifications.db").write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        await opened(tmp_path)
    assert caught.value.reason == "notifications_unusable"
    assert (tmp_path / "notifications.db").read_bytes() == content


async def test_another_programs_or_a_later_file_is_refused(tmp_path):
    path = tmp_path / "notifications.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(ConfigurationError, match="another program"):
        await opened(tmp_path)
    path.unlink()
    await (await opened(tmp_path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="a later orchestrator"):
        await opened(tmp_path)
