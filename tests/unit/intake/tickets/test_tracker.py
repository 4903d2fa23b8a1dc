"""The tracker's client against the stateful server: what a ticket is, and that trouble is never a ticket."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.tickets.client import Tracker, TrackerConnection
from orchestrator.intake.tickets.errors import (
    AnswerUnreadableError,
    TrackerError,
    TrackerRefusedError,
    TrackerUnavailableError,
)
from orchestrator.intake.tickets.ticket import MAX_MEMBERS, Ticket, TicketFields, TicketForm
from orchestrator.testing.tracker import TrackerFault, TrackerServer

FIELDS = TicketFields("key", "fields.status.statusCategory.key", "fields.project.key", "fields.issuetype.name")
TOKEN = "tracker-secret"


def form(url: str, **changes) -> TicketForm:
    told = {"page": "https://tracker.example/browse/{id}", "pattern": re.compile(r"[A-Z]{2,10}-[0-9]{1,8}")}
    return TicketForm(url, fields=FIELDS, open_values=frozenset({"new", "indeterminate"}), **{**told, **changes})


@pytest.fixture
async def server():
    async with TrackerServer(token=TOKEN) as found:
        found.add("REL-7")
        yield found


@pytest.fixture
async def tracker(server):
    found = connected(server)
    yield found
    await found.close()


def connected(server, seconds: float = 5.0, credential=TOKEN, monotonic=None) -> Tracker:
    header = ("Authorization", f"Bearer {credential}")
    connection = TrackerConnection(form(server.url), lambda: header, timeout_seconds=seconds)
    return Tracker(connection, monotonic) if monotonic else Tracker(connection)


async def test_a_ticket_that_is_open_and_then_is_not(server, tracker):
    page = "https://tracker.example/browse/REL-7"
    assert await tracker.ticket("REL-7") == Ticket(
        "REL-7", exists=True, open=True, status="new", project="SHOP", type="Release", url=page
    )
    server.close_ticket("REL-7")
    found = await tracker.ticket("REL-7")
    assert (found.exists, found.open, found.status) == (True, False, "done")


async def test_a_status_that_is_not_listed_is_closed(server, tracker):
    server.issues["REL-7"].status = "New"
    assert not (await tracker.ticket("REL-7")).open


async def test_a_ticket_that_is_not_there(server, tracker):
    assert await tracker.ticket("REL-8") == Ticket("REL-8", exists=False)
    assert server.asked == ["REL-8"]


@pytest.mark.parametrize("wanted", ["", "rel-7", "REL-7\n", "../REL-7", "REL-7/../X-1", "A" * 200, "REL-7?x", "%2e"])
async def test_what_cannot_be_an_id_is_not_asked_for(server, tracker, wanted):
    assert not (await tracker.ticket(wanted)).exists
    assert server.asked == []


def test_an_id_stays_one_segment_of_the_address():
    anything = form("https://tracker.example/issue/{id}?x=1", pattern=re.compile(r".*"))
    assert anything.address("a/../b?c#d e") == "https://tracker.example/issue/a%2F..%2Fb%3Fc%23d%20e?x=1"


@pytest.mark.parametrize("wanted", [".", "..", "../serverInfo", "REL/../7", "REL-7/..", "..\\x"])
async def test_whatever_the_pattern_says_no_id_leads_to_another_place(server, wanted):
    """A URL's `..` is resolved before it is sent, and some servers resolve `..%2F` themselves."""
    header = ("Authorization", f"Bearer {TOKEN}")
    lax = Tracker(TrackerConnection(form(server.url, pattern=re.compile(r".+")), lambda: header))
    assert await lax.ticket(wanted) == Ticket(wanted, exists=False)
    assert server.asked == []
    await lax.close()


def test_dots_within_an_id_are_fine():
    assert form("https://tracker.example/{id}", pattern=re.compile(r".+")).is_id("group/app..x#1.2")


@pytest.mark.parametrize("fault", [TrackerFault.UNAVAILABLE, TrackerFault.RESET])
async def test_what_passes_is_tried_again(server, tracker, fault):
    server.faults.extend([fault])
    assert (await tracker.ticket("REL-7")).open
    assert server.asked == ["REL-7"] * 2


@pytest.mark.parametrize(
    ("fault", "raised", "calls"),
    [
        (TrackerFault.UNAVAILABLE, TrackerUnavailableError, 3),
        (TrackerFault.RESET, TrackerUnavailableError, 3),
        (TrackerFault.RATE_LIMITED, TrackerUnavailableError, 1),
        (TrackerFault.FORBIDDEN, TrackerRefusedError, 1),
        (TrackerFault.MOVED, TrackerRefusedError, 1),
        (TrackerFault.OTHER, AnswerUnreadableError, 1),
        (TrackerFault.NO_STATUS, AnswerUnreadableError, 1),
        (TrackerFault.GARBAGE, AnswerUnreadableError, 1),
        (TrackerFault.LARGE, AnswerUnreadableError, 1),
    ],
)
async def test_trouble_is_an_error_that_tells_no_secret(server, tracker, fault, raised, calls):
    server.faults.extend([fault] * 9)
    with pytest.raises(raised) as failed:
        await tracker.ticket("REL-7")
    assert len(server.asked) == calls
    assert TOKEN not in str(failed.value) + failed.value.fix


async def test_a_limit_is_waited_for(server):
    now = [0.0]
    tracker = connected(server, monotonic=lambda: now[0])
    server.faults.append(TrackerFault.RATE_LIMITED)
    for _ in range(2):
        with pytest.raises(TrackerUnavailableError) as refused:
            await tracker.ticket("REL-7")
        assert refused.value.retry_after_seconds == 120
    assert len(server.asked) == 1
    now[0] = 121.0
    assert (await tracker.ticket("REL-7")).open
    await tracker.close()


async def test_silence_ends_in_its_time(server):
    tracker = connected(server, seconds=0.05)
    server.faults.append(TrackerFault.HANG)
    with pytest.raises(TrackerUnavailableError, match=r"no answer within 0\.05 s"):
        await tracker.ticket("REL-7")
    await tracker.close()


async def test_who_gives_up_leaves_nothing_behind(server, tracker):
    server.faults.append(TrackerFault.HANG)
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(tracker.ticket("REL-7"))
        await server.hanging.wait()
        asking.cancel()
    assert (await tracker.ticket("REL-7")).open


async def test_a_wrong_credential_is_refused(server):
    tracker = connected(server, credential="wrong")
    with pytest.raises(TrackerRefusedError):
        await tracker.ticket("REL-7")
    await tracker.close()


async def test_a_tracker_that_is_away(server, tracker):
    await server.stop()
    with pytest.raises(TrackerUnavailableError, match="cannot be reached"):
        await tracker.ticket("REL-7")
    await server.start()
    assert (await tracker.ticket("REL-7")).open


@pytest.mark.parametrize(
    ("value", "text"), [("open", "open"), (3, "3"), (True, "true"), (False, "false"), (None, None), ("", None)]
)
def test_a_status_is_a_text_a_number_or_a_truth_value(value, text):
    plain = TicketForm(
        "https://t/{id}", "https://t/{id}", re.compile("1"), TicketFields("", "s", "", ""), {"open", "3"}
    )
    body = b'{"s": %s}' % {"open": b'"open"', 3: b"3", "": b'""'}.get(value, b"true" if value else b"false")
    if text is None:
        with pytest.raises(AnswerUnreadableError, match=r"fields\.status"):
            plain.read("1", b'{"s": null}' if value is None else body)
    else:
        found = plain.read("1", body)
        assert (found.status, found.open) == (text, text in ("open", "3"))


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["key", "fields", "status"]), inner),
    max_leaves=8,
).map(lambda one: json.dumps(one).encode()))  # fmt: skip
def test_no_answer_breaks_the_reader(body):
    try:
        found = form("https://t/{id}").read("REL-7", body)
    except TrackerError:
        return
    assert found.id == "REL-7"


@pytest.mark.parametrize("filler", [b"1,", b"{},", b"[],"])
def test_an_answer_of_more_members_than_any_ticket_has_is_not_read(filler):
    body = b'{"key": "REL-7", "x": [' + filler * MAX_MEMBERS + b"0, 0]}"
    with pytest.raises(AnswerUnreadableError, match="members"):
        form("https://tracker.example/{id}").read("REL-7", body)
