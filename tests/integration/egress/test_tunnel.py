"""CONNECT through real gateway processes of both forms."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl

import pytest

pytestmark = pytest.mark.usefixtures("form")


# Both forms have the same proxy; what is the cluster's own is tested in test_cluster. Each start of one costs a second.
@pytest.fixture(params=["listener", pytest.param("cluster", marks=pytest.mark.slow)])
def form(request, form):
    return form


RESET = (ConnectionError, asyncio.IncompleteReadError)


async def hello_through(lab, port, target, flight, pieces=1):
    """What comes back for a first flight sent in `pieces`."""
    reader, writer, head = await lab.connect(port, target)
    assert head.startswith(b"HTTP/1.1 200 ")
    size = -(-len(flight) // pieces) or 1
    for at in range(0, len(flight), size):
        writer.write(flight[at : at + size])
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(-1), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_real_tls_both_ways_with_counts(lab, gateway, certificate):
    async with lab.serving(lab.echo, certificate.server) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        await writer.start_tls(certificate.client, server_hostname=lab.HOST)
        payload = bytes(range(256)) * 4096
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        (verdict,) = await gateway.told(1)
    assert verdict.allowed
    assert (verdict.host, verdict.port, verdict.protocol) == (lab.HOST, destination, "tls")
    assert (verdict.rule, verdict.address, verdict.reason) == (f"tls://{lab.HOST}:{destination}", "127.0.0.1", "")
    assert len(payload) < verdict.bytes_up < len(payload) * 1.1
    assert len(payload) < verdict.bytes_down < len(payload) * 1.1
    assert verdict.duration_ns > 0


async def test_curl_over_tls(lab, gateway, certificate):
    if shutil.which("curl") is None:
        pytest.skip("NOT TESTED: curl is not installed")

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()

    async with lab.serving(answer, certificate.server) as destination:
        port = await gateway.open([lab.tls(destination)])
        url = f"https://{lab.HOST}:{destination}/"
        command = ["curl", "-sS", "--cacert", str(certificate.path), "-x", port.proxy]
        run = await asyncio.create_subprocess_exec(*command, url, stdout=-1, stderr=-1, env={"PATH": "/usr/bin:/bin"})
        out, err = await asyncio.wait_for(run.communicate(), 20)
        assert (run.returncode, out) == (0, b"hello"), err
        blocked = await asyncio.create_subprocess_exec(
            *command, "https://evil.test/", stdout=-1, stderr=-1, env={"PATH": "/usr/bin:/bin"}
        )
        _, err = await asyncio.wait_for(blocked.communicate(), 20)
        assert blocked.returncode == 56
        assert b"403" in err
        assert sorted(v.allowed for v in await gateway.told(2)) == [False, True]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("evil.test:443", "host_not_listed"),
        ("sub.site.test:443", "host_not_listed"),
        ("site.test:1", "port_not_listed"),
        ("plain.test:80", "protocol_not_listed"),
        ("127.0.0.1:443", "address_literal"),
        ("2130706433:443", "address_literal"),
        ("0x7f.1:443", "address_literal"),
        ("[::1]:443", "address_literal"),
        ("[::ffff:10.0.0.1]:443", "address_literal"),
        ("169.254.169.254:80", "address_literal"),
        ("localhost:443", "bad_host"),
    ],
)
async def test_refused_targets(lab, gateway, target, reason):
    port = await gateway.open([lab.tls(443), lab.http(80, "plain.test")])
    head, _, body = (await lab.ask(port, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 403 Forbidden ({reason})\r\n".encode())
    assert b"Proxy-Status: egress; " in head
    problem = json.loads(body)
    assert problem["reason"] == reason
    assert f"blocked {target}" in problem["detail"]
    assert problem["hint"]
    (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason, verdict.canary) == (False, reason, False)
    assert f"{verdict.host}:{verdict.port}" == target


async def test_the_canary_is_marked(lab, gateway):
    port = await gateway.open([lab.tls(443)])
    await lab.ask(port, b"CONNECT Egress-Canary.invalid:443 HTTP/1.1\r\n\r\n")
    (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.canary) == (False, True)


async def test_no_rules_refuse_everything(lab, gateway):
    port = await gateway.open([])
    assert b" 403 " in await lab.ask(port, b"CONNECT site.test:443 HTTP/1.1\r\n\r\n")
    assert b" 403 " in await lab.ask(port, b"GET http://site.test/ HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(("sni", "reason"), [("other.test", "server_name_mismatch"), (None, "no_server_name")])
async def test_the_server_name_must_be_the_host(lab, gateway, sni, reason):
    seen = bytearray()

    async def listen(reader, writer):
        seen.extend(await reader.read(-1))

    async with lab.serving(listen) as destination:
        port = await gateway.open([lab.tls(destination), lab.tls(destination, "other.test")])
        answer = await hello_through(lab, port, f"{lab.HOST}:{destination}", lab.client_hello(sni))
        (verdict,) = await gateway.told(1)
    assert answer == bytes((21, 3, 3, 0, 2, 2, 49))  # fatal access_denied
    assert (verdict.allowed, verdict.reason, verdict.bytes_up) == (False, reason, 0)
    assert verdict.address == "127.0.0.1"
    assert not seen


async def test_a_real_client_sees_an_alert_not_a_riddle(lab, gateway, certificate):
    async with lab.serving(lab.echo, certificate.server) as destination:
        port = await gateway.open([lab.tls(destination)])
        _, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            await writer.start_tls(certificate.client, server_hostname="evil.test")
        writer.close()


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH_9\r\n", b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n", b"\x16\x03\x01\0\0"]
)
async def test_only_tls_passes(lab, gateway, first):
    seen = bytearray()

    async def listen(reader, writer):
        seen.extend(await reader.read(-1))

    async with lab.serving(listen) as destination:
        port = await gateway.open([lab.tls(destination)])
        assert await hello_through(lab, port, f"{lab.HOST}:{destination}", first) == b""
        (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason) == (False, "not_tls")
    assert not seen


@pytest.mark.parametrize("delay", [0, 0.1])
async def test_a_destination_that_speaks_first_is_no_tls_server(lab, gateway, delay):
    async def banner(reader, writer):
        await asyncio.sleep(delay)
        writer.write(b"SSH-2.0-server\r\n")
        await reader.read(-1)

    async with lab.serving(banner) as destination:
        port = await gateway.open([lab.tls(destination)])
        answer = await lab.ask(port, f"CONNECT {lab.HOST}:{destination} HTTP/1.1\r\n\r\n".encode())
        (verdict,) = await gateway.told(1)
    assert b"SSH" not in answer
    assert (verdict.allowed, verdict.reason, verdict.bytes_down) == (False, "not_tls", 0)


async def test_a_tunnel_that_says_nothing(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        assert await hello_through(lab, port, f"{lab.HOST}:{destination}", b"") == b""
        (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason) == (False, "no_client_hello")


@pytest.mark.parametrize("pieces", [2, 7, 50])
async def test_a_hello_in_pieces(lab, gateway, pieces):
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        flight = lab.client_hello(lab.HOST)
        assert await hello_through(lab, port, f"{lab.HOST}:{destination}", flight, pieces) == flight
        (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.bytes_up, verdict.bytes_down) == (True, len(flight), len(flight))


async def test_an_eager_client_need_not_wait_for_the_answer(lab, gateway):
    flight = lab.client_hello(lab.HOST)
    async with lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer, head = await lab.connect(port, f"{lab.HOST}:{destination}", extra=flight + b"x" * 300_000)
        assert b" 200 " in head
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 10) == flight + b"x" * 300_000
        writer.close()


async def test_half_close_keeps_the_way_back_open(lab, gateway):
    async def late(reader, writer):
        whole = await reader.read(-1)
        writer.write(b"%d" % len(whole))
        await writer.drain()

    flight = lab.client_hello(lab.HOST)
    async with lab.serving(late) as destination:
        port = await gateway.open([lab.tls(destination)])
        assert await hello_through(lab, port, f"{lab.HOST}:{destination}", flight) == b"%d" % len(flight)


async def test_half_close_from_the_destination(lab, gateway):
    got = asyncio.get_running_loop().create_future()

    async def first_done(reader, writer):
        writer.write(b"bye" + await reader.read(100))
        writer.write_eof()
        got.set_result(await reader.read(-1))

    flight = lab.client_hello(lab.HOST)
    async with lab.serving(first_done) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        writer.write(flight)
        assert (await asyncio.wait_for(reader.read(-1), 10)).startswith(b"bye")
        writer.write(b"still here")
        writer.write_eof()
        assert (await asyncio.wait_for(got, 10)).endswith(b"still here")
        writer.close()
        (verdict,) = await gateway.told(1)
    assert verdict.bytes_up == len(flight) + len(b"still here")


async def test_a_reset_is_passed_on(lab, gateway):
    async def cut(reader, writer):
        await reader.read(100)
        writer.transport.abort()

    async with lab.serving(cut) as destination:
        port = await gateway.open([lab.tls(destination)])
        await hello_through(lab, port, f"{lab.HOST}:{destination}", lab.client_hello(lab.HOST))
        (verdict,) = await gateway.told(1)
    assert verdict.allowed


async def test_a_slow_reader_holds_the_sender_back(lab, gateway):
    """Back-pressure: what is under way is bounded by buffers, however much the destination has to say."""
    sent = 0
    stalled = asyncio.Event()

    async def pour(reader, writer):
        nonlocal sent
        await reader.read(100)
        while sent < 256 << 20:
            writer.write(b"x" * 65536)
            sent += 65536
            try:
                await asyncio.wait_for(writer.drain(), 1)
            except TimeoutError:
                stalled.set()
                await writer.drain()

    async with lab.serving(pour) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        reader._transport.pause_reading()  # a client that does not read
        writer.write(lab.client_hello(lab.HOST))
        await asyncio.wait_for(stalled.wait(), 30)
        assert sent < 64 << 20
        writer.transport.abort()
        (verdict,) = await gateway.told(1)
    assert verdict.bytes_down <= sent


async def test_unreachable_and_unknown_hosts(lab, gateway):
    spare = lab.listener()
    closed = spare.getsockname()[1]
    spare.close()
    port = await gateway.open([lab.tls(closed), lab.tls(443, "no-such-name.invalid")])
    assert b" 502 Bad Gateway (connect_failed)" in await lab.ask(
        port, f"CONNECT site.test:{closed} HTTP/1.1\r\n\r\n".encode()
    )
    answer = await lab.ask(port, b"CONNECT no-such-name.invalid:443 HTTP/1.1\r\n\r\n")
    assert b"(name_unresolved)" in answer or b"(connect_timeout)" in answer
    refused, unknown = await gateway.told(2)
    assert (refused.allowed, refused.reason) == (True, "connect_failed")
    assert unknown.bytes_up == 0


async def test_slow_heads_are_cut_off(lab):
    async with lab.egress(head_timeout_seconds=1.5) as gateway, lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer = await lab.dial(port)

        async def drip():
            while True:
                writer.write(b"C")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        try:
            assert b" 408 " in await asyncio.wait_for(reader.read(-1), 10)
        finally:
            dripping.cancel()
            writer.close()
        # The same for a tunnel whose ClientHello never ends.
        reader, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        writer.write(lab.client_hello(lab.HOST)[:-1])
        assert (await asyncio.wait_for(reader.read(-1), 10))[:1] == b"\x15"
        writer.close()
        slow, mute = await gateway.told(2)
    assert (slow.allowed, slow.reason, slow.host) == (False, "head_timeout", "")
    assert (mute.allowed, mute.reason) == (False, "hello_timeout")


async def test_too_large_a_head(lab, gateway):
    port = await gateway.open([])
    flood = b"CONNECT a.test:443 HTTP/1.1\r\nA: " + b"x" * (80 << 10)
    assert b" 431 " in await lab.ask(port, flood)
    (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason) == (False, "head_too_large")


async def test_idle_tunnels_end(lab):
    async with lab.egress(idle_timeout_seconds=2) as gateway, lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        reader, writer, _ = await lab.connect(port, f"{lab.HOST}:{destination}")
        flight = lab.client_hello(lab.HOST)
        writer.write(flight)
        await reader.readexactly(len(flight))
        for _ in range(12):  # longer than the timeout, but never idle
            await asyncio.sleep(0.2)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        with pytest.raises(RESET):
            await asyncio.wait_for(reader.readexactly(1), 10)
        writer.close()
        (verdict,) = await gateway.told(1)
    assert (verdict.allowed, verdict.reason, verdict.bytes_up) == (True, "idle_timeout", len(flight) + 12)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_byte_budgets_are_the_runners(lab, way):
    flight = lab.client_hello(lab.HOST)
    limits = {f"max_bytes_{way}": 2 * len(flight) + 50_000}
    async with lab.egress(**limits) as gateway, lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        other = await gateway.open([lab.tls(destination)], "runner-b")
        target = f"{lab.HOST}:{destination}"
        first, first_writer, _ = await lab.connect(port, target)
        first_writer.write(flight)
        await first.readexactly(len(flight))
        second, second_writer, _ = await lab.connect(port, target)
        second_writer.write(flight + b"x" * 100_000)
        for reader in (first, second):  # both end: the budget is shared
            with pytest.raises(RESET):
                await asyncio.wait_for(reader.readexactly(1_000_000), 10)
        assert f"(bytes_{way}_exhausted)".encode() in await lab.ask(port, f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        assert await hello_through(lab, other, target, flight) == flight  # another runner is not touched
        first_writer.close()
        second_writer.close()
        verdicts = await gateway.told(3)
    assert [v.reason for v in verdicts] == [f"bytes_{way}_exhausted"] * 3
    assert sorted(v.allowed for v in verdicts) == [False, True, True]
    assert sum(getattr(v, f"bytes_{way}") for v in verdicts) <= limits[f"max_bytes_{way}"]


async def test_connections_at_once_are_bounded(lab):
    async with lab.egress(max_connections=3) as gateway, lab.serving(lab.echo) as destination:
        port = await gateway.open([lab.tls(destination)])
        held = [await lab.connect(port, f"{lab.HOST}:{destination}") for _ in range(3)]
        assert b" 503 Service Unavailable (too_many_connections)" in await lab.ask(port, b"")
        held[0][1].close()
        await gateway.told(2)
        again = await lab.connect(port, f"{lab.HOST}:{destination}")
        assert b" 200 " in again[2]
        for _, writer, _ in [*held, again]:
            writer.close()


async def test_a_flood_of_refusals_stays_small(lab, gateway):
    port = await gateway.open([])
    total = 600
    for at in range(0, total, 50):
        requests = (f"CONNECT h{at + i}.evil.test:443 HTTP/1.1\r\n\r\n".encode() for i in range(50))
        assert all(b" 403 " in answer for answer in await asyncio.gather(*(lab.ask(port, r) for r in requests)))
    await gateway.close()
    verdicts = gateway.of()
    assert len(verdicts) < 250
    assert sum(v.connections for v in verdicts) == total
