"""Heads and bodies: one reading or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.http_body import BodyError, BodyFramer
from orchestrator.egress.http_head import MAX_HEAD, Framing, HeadError, find_head, forwarded_head, framing, parse_head
from orchestrator.egress.request import Request, judge, take_head
from orchestrator.egress.rules import RuleSet
from orchestrator.model.egress import EgressProtocol, EgressRule

RULES = RuleSet(
    [
        EgressRule("a.test", 80, EgressProtocol.HTTP),
        EgressRule("a.test", 8080, EgressProtocol.HTTP),
        EgressRule("t.test"),
    ]
)


def read_request(buffer: bytearray, rules: RuleSet) -> Request | None:
    head = take_head(buffer)
    return None if head is None else judge(head, rules)


def request(text: str) -> Request:
    found = read_request(bytearray(text.replace("\n", "\r\n").encode("latin-1")), RULES)
    assert found is not None
    return found


def reason(data: bytes) -> str:
    with pytest.raises(HeadError) as caught:
        read_request(bytearray(data), RULES)
    return caught.value.reason


def test_connect():
    found = request("CONNECT T.test.:443 HTTP/1.1\nHost: whatever\n\n")
    assert found.body is None
    assert (found.verdict.allowed, found.verdict.host, found.verdict.port) == (True, "t.test", 443)


def test_a_plain_request_is_written_anew():
    found = request(
        "POST http://A.test:8080/x?y=1 HTTP/1.1\nHost: evil.test\nX-Keep: 1\nConnection: X-Drop, close\nX-Drop: 2\n"
        "Proxy-Authorization: secret\nUpgrade: websocket\nTE: trailers\nContent-Length: 3\nhost: b.test\n\n"
    )
    assert found.verdict.allowed
    assert found.head == (
        b"POST /x?y=1 HTTP/1.1\r\nHost: a.test:8080\r\nx-keep: 1\r\nContent-Length: 3\r\nVia: 1.1 egress\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("http://a.test", b"GET / HTTP/1.1"),
        ("HTTP://a.test:80/", b"GET / HTTP/1.1"),
        ("http://a.test?q", b"GET /?q HTTP/1.1"),
        ("http://a.test//evil.test/%00", b"GET //evil.test/%00 HTTP/1.1"),
    ],
)
def test_targets(target, line):
    found = request(f"GET {target} HTTP/1.1\n\n")
    assert found.verdict.host == "a.test"
    assert found.head.split(b"\r\n")[:2] == [line, b"Host: a.test"]


def test_options_of_the_whole_server():
    assert request("OPTIONS http://a.test HTTP/1.1\n\n").head.startswith(b"OPTIONS * HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "GET / HTTP/1.1\n\n",
        "GET https://t.test/ HTTP/1.1\n\n",
        "GET ftp://a.test/ HTTP/1.1\n\n",
        "GET a.test HTTP/1.1\n\n",
    ],
)
def test_no_proxy_request(text):
    assert reason(text.replace("\n", "\r\n").encode()) == "not_a_proxy_request"


@pytest.mark.parametrize(
    "data",
    [
        b"GET  http://a.test/ HTTP/1.1\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1 \r\n\r\n",
        b"GET http://a.test/ HTTP/2.0\r\n\r\n",
        b"GET http://a.test/ http/1.1\r\n\r\n",
        b"GET http://a.test/\r\n\r\n",
        b"GET http://a.test/ x HTTP/1.1\r\n\r\n",
        b"GET http://a.test/\x00 HTTP/1.1\r\n\r\n",
        b"GET http://u:p@a.test/ HTTP/1.1\r\n\r\n",
        b"GET http://a.test@evil.test/ HTTP/1.1\r\n\r\n",
        b"GET http://evil.test#@a.test/ HTTP/1.1\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        b"GET http://a.test:/ HTTP/1.1\r\n\r\n",
        b"GET http://a.test:0/ HTTP/1.1\r\n\r\n",
        b"GET http://a.test:65536/ HTTP/1.1\r\n\r\n",
        b"GET http://a.test:+80/ HTTP/1.1\r\n\r\n",
        b"CONNECT t.test HTTP/1.1\r\n\r\n",
        b"CONNECT t.test: HTTP/1.1\r\n\r\n",
        b"CONNECT t.test:443:443 HTTP/1.1\r\n\r\n",
        b"CONNECT t.test:443/ HTTP/1.1\r\n\r\n",
        b"CONNECT http://t.test:443 HTTP/1.1\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\n A: b\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA: b\nB: c\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA: b\rB: c\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET http://a.test/ HTTP/1.1\r\nA\r\n\r\n",
        b"\r\n\r\nGET http://a.test/ HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
    ],
)
def test_malformed(data):
    assert reason(data) == "bad_request"


@pytest.mark.parametrize(
    "fields",
    [
        "Content-Length: 1\nContent-Length: 1",
        "Content-Length: 1\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length:",
        "Content-Length: 1 1",
        "Content-Length: ²",
        "Content-Length: 9999999999999999999",
        "Content-Length: 1\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding:",
    ],
)
def test_ambiguous_lengths(fields):
    data = f"POST http://a.test/ HTTP/1.1\n{fields}\n\n".replace("\n", "\r\n").encode("latin-1")
    assert reason(data) == "bad_request"


def test_no_chunks_in_http_1_0():
    assert reason(b"POST http://a.test/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n") == "bad_request"


def test_head_size():
    assert find_head(b"GET ") == 0
    fits = b"GET / HTTP/1.1\r\nA: " + b"x" * (MAX_HEAD - 23) + b"\r\n\r\n"
    assert find_head(fits) == len(fits) == MAX_HEAD
    with pytest.raises(HeadError, match="longer"):
        find_head(b"x" + fits)


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.text(st.characters(max_codepoint=255), max_size=60))
def test_nothing_smuggles_a_line_into_what_is_forwarded(name, value):
    data = f"GET http://a.test/ HTTP/1.1\r\n{name}: {value}\r\n\r\n".encode("latin-1")
    try:
        found = read_request(bytearray(data), RULES)
    except HeadError:
        return
    if found is None or not found.head:
        return
    again = parse_head(found.head)
    assert again.values("host") == ["a.test"]
    assert again.values("connection") == ["close"]
    assert framing(again) == framing(parse_head(data[: find_head(data)]))
    assert found.head.count(b"\r\n\r\n") == 1
    assert found.head.count(b"\n") == found.head.count(b"\r\n")


BODY = st.lists(st.binary(max_size=50), max_size=6)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def decode(data: bytes) -> bytes:
    """A second reading of chunks, without extensions or trailers."""
    out = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        out, data = out + data[:count], data[count:]
        assert data.startswith(b"\r\n")
        data = data[2:]
        if not count:
            assert data == b""
            return out


@given(
    BODY, st.lists(st.integers(1, 20), max_size=30), st.binary(max_size=30), st.sampled_from([b"", b";x=1", b" ; y"])
)
def test_chunks_in_any_cut_and_nothing_after_them(chunks, sizes, excess, note):
    chunks = [chunk for chunk in chunks if chunk]
    stream = b"".join(b"%X%s\r\n%s\r\n" % (len(chunk), note, chunk) for chunk in chunks) + b"0\r\nT: 1\r\n\r\n" + excess
    framer = BodyFramer(Framing(chunked=True))
    out = b"".join(framer.feed(piece) for piece in cut(stream, sizes))
    assert framer.done
    assert decode(out) == b"".join(chunks)


@given(st.binary(max_size=100), st.integers(0, 120), st.lists(st.integers(1, 20), max_size=10))
def test_a_length_is_never_exceeded(data, length, sizes):
    framer = BodyFramer(Framing(length=length))
    out = b"".join(framer.feed(piece) for piece in cut(data, sizes))
    assert out == data[:length]
    assert framer.done == (len(data) >= length)


@pytest.mark.parametrize(
    "data",
    [b"x\r\n", b"-1\r\n", b"+1\r\n", b"0x1\r\n", b" 1\r\n", b"1\n", b"1\r\nab\r\n", b"1\r\na\n", b"1 \r\n",
     b"1;\x00\r\n", b"F" * 16 + b"\r\n", b"1" * 2000, b"0\r\n" + b"a: b\r\n" * 3000, b"_1\r\n"],
)  # fmt: skip
def test_malformed_chunks(data):
    with pytest.raises(BodyError):
        BodyFramer(Framing(chunked=True)).feed(data)


@given(st.binary(max_size=80))
def test_noise_in_chunks(data):
    framer = BodyFramer(Framing(chunked=True))
    try:
        out = framer.feed(data)
    except BodyError:
        return
    if framer.done:
        decode(out)


def test_forwarded_head_keeps_the_length_only_when_there_was_one():
    head = parse_head(b"GET http://a.test/ HTTP/1.1\r\n\r\n")
    assert b"Content-Length" not in forwarded_head(head, "a.test", 80, "/", Framing())
    head = parse_head(b"PUT http://a.test/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    assert b"Content-Length: 0\r\n" in forwarded_head(head, "a.test", 80, "/", Framing())
