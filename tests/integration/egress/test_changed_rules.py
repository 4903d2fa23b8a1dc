"""A runner's rules change while it runs: on both forms of the gateway, with connections open across the change."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.egress.proxy_credential import credential_digest

RESET = (ConnectionError, asyncio.IncompleteReadError)

pytestmark = pytest.mark.parametrize("form", ["listener", "cluster"], indirect=True)


async def change(lab, gateway, port, rules):
    """As each kind of daemon does it; afterwards they are in force."""
    if hasattr(gateway, "process"):
        assert await gateway.process.change(lab.RUNNER, rules)
    else:
        digest = credential_digest(port.credential)
        gateway.hub.publish(lab.RUNNER, port.source, digest, rules)
        await gateway.hub.replaced(lab.RUNNER)


async def status(lab, port, host, destination) -> bytes:
    _, writer, head = await lab.connect(port, f"{host}:{destination}")
    writer.close()
    return head.split()[1]


async def tunnel(lab, port, host, destination):
    reader, writer, head = await lab.connect(port, f"{host}:{destination}")
    assert b" 200 " in head, head
    flight = lab.client_hello(host)
    writer.write(flight)
    assert await reader.readexactly(len(flight)) == flight
    return reader, writer


async def test_wider_rules_hold_at_once_and_cut_nothing(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        narrow = [lab.tls(destination)]
        port = await gateway.open(narrow)
        reader, writer = await tunnel(lab, port, lab.HOST, destination)
        assert await status(lab, port, "other.test", destination) == b"403"
        await change(lab, gateway, port, [*narrow, lab.tls(destination, "other.test")])
        assert await status(lab, port, "other.test", destination) == b"200"
        writer.write(b"x")
        assert await asyncio.wait_for(reader.readexactly(1), 10) == b"x"
        writer.close()


async def test_narrower_rules_cut_what_they_do_not_allow_and_nothing_else(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        narrow, more = [lab.tls(destination)], lab.tls(destination, "other.test")
        port = await gateway.open([*narrow, more])
        kept, kept_writer = await tunnel(lab, port, lab.HOST, destination)
        cut, cut_writer = await tunnel(lab, port, "other.test", destination)
        await change(lab, gateway, port, narrow)
        assert await status(lab, port, "other.test", destination) == b"403"
        with pytest.raises(RESET):
            await asyncio.wait_for(cut.readexactly(1), 10)
        kept_writer.write(b"x")
        assert await asyncio.wait_for(kept.readexactly(1), 10) == b"x"
        verdicts = await gateway.told(2)
        assert [(one.host, one.allowed, one.reason) for one in verdicts if one.reason == "rules_changed"] == [
            ("other.test", True, "rules_changed")
        ]
        for writer in (kept_writer, cut_writer):
            writer.close()


async def test_a_request_that_was_begun_is_judged_by_the_rules_of_its_end(lab, gateway):
    async with lab.serving(lab.echo) as destination:
        more = lab.tls(destination, "other.test")
        port = await gateway.open([more])
        reader, writer = await lab.dial(port)
        asked = port.request(f"CONNECT other.test:{destination} HTTP/1.1\r\nHost: other.test\r\n\r\n".encode())
        writer.write(asked[:-2])
        await writer.drain()
        await change(lab, gateway, port, [])
        writer.write(asked[-2:])
        assert b" 403 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        writer.close()


async def test_what_was_spent_stays_spent(lab, form):
    async with lab.egress(max_bytes_up=4000) as gateway, lab.serving(lab.echo) as destination:
        narrow = [lab.tls(destination)]
        port = await gateway.open(narrow)
        reader, writer = await tunnel(lab, port, lab.HOST, destination)
        writer.write(b"x" * 3000)
        assert len(await asyncio.wait_for(reader.readexactly(3000), 10)) == 3000
        await change(lab, gateway, port, [*narrow, lab.tls(destination, "other.test")])
        writer.write(b"x" * 3000)
        with pytest.raises(RESET):
            await asyncio.wait_for(reader.readexactly(3000), 10)
        writer.close()
