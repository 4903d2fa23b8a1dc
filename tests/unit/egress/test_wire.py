"""The control line: frames in any cut, descriptors with the right message, rules that are kept."""

from __future__ import annotations

import array
import asyncio
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.wire import MAX_FRAME, ControlLine, FrameReader, LineError, encode, receive_first


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers()), max_size=5), st.integers(1, 9))
def test_frames_in_any_cut(messages, size):
    stream = b"".join(encode(message) for message in messages)
    reader, found = FrameReader(), []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    assert found == messages


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1{", b"\0\0\0\2\xff\xff"])
def test_bad_frames(data):
    with pytest.raises(LineError):
        FrameReader().feed(data)


def test_too_long_a_message_is_not_sent():
    with pytest.raises(LineError):
        encode({"x": "y" * MAX_FRAME})


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class End:
    """One end of a line."""

    def __init__(self, sock: socket.socket, *, takes: bool) -> None:
        self.got: asyncio.Queue[tuple[dict, int | None]] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.line = ControlLine(sock, lambda m, d: self.got.put_nowait((m, d)), self.lost.set, takes_descriptors=takes)

    async def next(self):
        return await asyncio.wait_for(self.got.get(), 5)


@pytest.fixture
def pair():
    return socket.socketpair()


async def test_each_listener_comes_with_its_message(pair):
    ours, theirs = End(pair[0], takes=False), End(pair[1], takes=True)
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(20)]
    for number, listener in enumerate(listeners):
        ours.line.send({"number": number, "listener": True}, listener.fileno())
        ours.line.send({"between": number})
        listener.close()
    for number in range(len(listeners)):
        message, descriptor = await theirs.next()
        assert message["number"] == number
        with socket.socket(fileno=descriptor) as taken:
            assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert not taken.get_inheritable()
        assert await theirs.next() == ({"between": number}, None)
    ours.line.close()
    await asyncio.wait_for(theirs.lost.wait(), 5)


async def test_a_slow_reader_loses_nothing(pair):
    sender = End(pair[0], takes=True)
    for number in range(300):
        sender.line.send({"number": number, "pad": "x" * 10_000})
    reader = End(pair[1], takes=False)
    assert [(await reader.next())[0]["number"] for _ in range(300)] == list(range(300))
    reader.line.close()
    sender.line.close()


async def test_a_listener_that_is_missing_ends_the_line(pair):
    end = End(pair[1], takes=True)
    pair[0].sendall(encode({"do": "open", "listener": True}))
    await asyncio.wait_for(end.lost.wait(), 5)
    pair[0].close()


async def test_the_daemons_end_takes_no_descriptors(pair):
    end = End(pair[1], takes=False)
    before = open_files()
    pair[0].sendmsg([encode({"a": 1})], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
    assert await end.next() == ({"a": 1}, None)
    assert open_files() == before
    end.line.close()
    pair[0].close()


async def test_descriptors_nobody_asked_for_are_closed_with_the_line(pair):
    end = End(pair[1], takes=True)
    before = open_files()
    pair[0].sendmsg([encode({"a": 1})], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))])
    await end.next()
    end.line.close()
    assert open_files() == before - 1
    pair[0].close()


def test_the_first_message_is_waited_for_but_not_for_ever(pair):
    with pair[0], pair[1]:
        pair[0].sendall(encode({"first": 1}) + encode({"second": 2}))
        assert receive_first(pair[1], 5) == {"first": 1}
        assert pair[1].recv(100) == encode({"second": 2})
        with pytest.raises(LineError):
            receive_first(pair[1], 0.01)
        pair[0].sendall(b"\xff\xff\xff\xff")
        with pytest.raises(LineError):
            receive_first(pair[1], 5)


def test_a_first_message_cut_short(pair):
    with pair[1]:
        pair[0].sendall(encode({"first": 1})[:-1])
        pair[0].close()
        with pytest.raises(LineError):
            receive_first(pair[1], 5)
