"""The server name, however the first flight is cut up; and nothing that hides it."""

from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.egress.client_hello import MAX_HELLO, ClientHelloReader, HelloError


def real_hello(host: str | None) -> bytes:
    """What the TLS library of this machine sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def vector(prefix: int, content: bytes) -> bytes:
    return len(content).to_bytes(prefix, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, content)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def message(extensions: bytes, tail: bytes = b"") -> bytes:
    body = b"\x03\x03" + b"r" * 32 + vector(1, b"s" * 32) + vector(2, b"\x13\x01") + vector(1, b"\0")
    return b"\x01" + vector(3, body + vector(2, extensions) + tail)


def records(payload: bytes, size: int = 1 << 14) -> bytes:
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def reason(data: bytes) -> str:
    with pytest.raises(HelloError) as caught:
        ClientHelloReader().feed(data)
    return caught.value.reason


HELLO = real_hello("Shop.Example.COM")


def test_split_at_every_byte():
    for cut in range(1, len(HELLO)):
        reader = ClientHelloReader()
        assert reader.feed(HELLO[:cut]) is None
        found = reader.feed(HELLO[cut:])
        assert found is not None
        assert found.server_name == "shop.example.com"


def test_byte_by_byte_in_records_of_one_byte():
    payload = b"".join(HELLO[5:][at : at + 1] for at in range(len(HELLO) - 5))
    reader = ClientHelloReader()
    stream = records(payload, 1)
    answers = [reader.feed(stream[at : at + 1]) for at in range(len(stream))]
    assert [answer for answer in answers if answer] == [answers[-1]]
    assert answers[-1] is not None
    assert answers[-1].server_name == "shop.example.com"


@given(st.lists(st.integers(1, 400), min_size=1), st.integers(1, 700))
def test_any_cut_and_any_record_size_reads_the_same(sizes, record):
    stream = records(HELLO[5:], record)
    reader, at, found = ClientHelloReader(), 0, None
    for size in [*sizes, len(stream)]:
        found = reader.feed(stream[at : at + size]) if at < len(stream) and found is None else found
        at += size
    assert found is not None
    assert found.server_name == "shop.example.com"


def test_what_follows_the_hello_does_not_matter():
    found = ClientHelloReader().feed(HELLO + b"early data or anything")
    assert found is not None


def test_no_server_name():
    assert reason(real_hello(None)) == "no_server_name"
    assert reason(records(message(b""))) == "no_server_name"
    assert (
        reason(records(b"\x01" + vector(3, b"\x03\x03" + b"r" * 32 + b"\0" + vector(2, b"\0\1") + b"\1\0")))
        == "no_server_name"
    )


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_a_hidden_name_is_refused_also_beside_an_open_one(kind):
    assert reason(records(message(server_name(b"a.test") + extension(kind, b"x" * 40)))) == "encrypted_client_hello"
    assert reason(records(message(extension(kind, b"")))) == "encrypted_client_hello"


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x02\x00\x00\x01\x01",
     b"\x16\x03\x01\x00\x00", b"\x15\x03\x01\x00\x02\x02\x28", b"\x17\x03\x03\x00\x01x", b"\x16\x03\x01\xff\xff",
     records(b"\x02" + vector(3, b"x")), b"\0"],
)  # fmt: skip
def test_not_tls(data):
    assert reason(data) == "not_tls"


@pytest.mark.parametrize(
    "payload",
    [
        message(server_name(b"a.test") + server_name(b"b.test")),  # two extensions
        message(server_name(b"a.test", b"b.test")),  # two names
        message(server_name(b"")),
        message(server_name(b"a.test", kind=1)),
        message(server_name("ä.test".encode())),
        message(extension(0, vector(2, b"\0" + vector(2, b"a.test")) + b"x")),
        message(extension(0, b"")),
        message(server_name(b"a.test"), tail=b"x"),
        message(b"\0\0\xff"),
        b"\x01" + vector(3, b"\x03\x03"),
    ],
)
def test_malformed(payload):
    assert reason(records(payload)) == "bad_client_hello"


def test_too_large():
    assert reason(records(b"\x01" + (MAX_HELLO + 1).to_bytes(3, "big"))) == "client_hello_too_large"
    flood = records(b"\x01" + (MAX_HELLO - 1).to_bytes(3, "big") + b"x" * 60000, 1)

    def pour():
        reader = ClientHelloReader()
        for at in range(0, len(flood), 5000):
            reader.feed(flood[at : at + 5000])

    with pytest.raises(HelloError, match="client_hello_too_large"):
        pour()


@given(st.binary(max_size=200), st.integers(0, len(HELLO) - 1), st.integers(1, 255))
def test_noise_never_does_anything_else(noise, at, flip):
    damaged = HELLO[:at] + bytes([HELLO[at] ^ flip]) + HELLO[at + 1 :]
    for data in (noise, damaged, records(message(noise)), records(noise or b"x")):
        with contextlib.suppress(HelloError):
            ClientHelloReader().feed(data)
