"""The cluster's gateway on the standard event loop, in this process: what depends on the order of things."""

from __future__ import annotations

import asyncio
import base64
from contextlib import asynccontextmanager, suppress

from orchestrator.egress.cluster import ClusterGateway
from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.proxy_credential import credential_digest
from orchestrator.egress.publication import Publication, runner_entry


class Cluster:
    def __init__(self, **limits) -> None:
        self.verdicts = []
        self.publication = Publication()
        config = GatewayConfig(names={"site.test": "127.0.0.1"}, **limits)
        self.gateway = ClusterGateway(config, lambda name, v: self.verdicts.append((name, v.reason)), lambda *_: None)
        self.port = 0

    def publish(self, name: str, address: str = "127.0.0.1", credential: str = "good") -> None:
        self.publication.put(runner_entry(name, [address], credential_digest(credential), []))

    def poll(self, max_age: float = 15.0, asked: float = 0.0) -> None:
        """`asked` is how long ago the question was."""
        update = self.publication.update(self.publication.known(self.gateway.version), max_age)
        self.gateway.apply(update, asyncio.get_running_loop().time() - asked)

    async def dial(self):
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def cluster(**limits):
    made = Cluster(**limits)
    server = await asyncio.get_running_loop().create_server(made.gateway.connection, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    running = asyncio.create_task(made.gateway.run())
    try:
        yield made
    finally:
        server.close()
        running.cancel()
        await made.gateway.close()


def request(credential: str = "good") -> bytes:
    shown = base64.b64encode(f"runner:{credential}".encode())
    return b"CONNECT site.test:443 HTTP/1.1\r\nProxy-Authorization: Basic " + shown + b"\r\n\r\n"


async def answer(reader, writer) -> bytes:
    found = await asyncio.wait_for(reader.read(-1), 10)
    writer.close()
    return found


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_job_that_is_quicker_than_the_table_is_served():
    """The connection was accepted from a stranger; when its request is there, the runner is known."""
    async with cluster() as made:
        made.poll()
        reader, writer = await made.dial()
        await until(lambda: len(made.gateway.strangers.connections) == 1)
        made.publish("runner-a")
        made.poll()
        writer.write(request())
        assert b"(host_not_listed)" in await answer(reader, writer)
        assert made.verdicts == [("runner-a", "host_not_listed")]
        await until(lambda: made.gateway.connections == 0)
        assert not made.gateway.strangers.connections


async def test_a_runner_withdrawn_between_accept_and_request_is_not_served():
    async with cluster() as made:
        made.publish("runner-a")
        made.poll()
        reader, writer = await made.dial()
        await until(lambda: made.gateway.connections == 1)
        made.publication.remove("runner-a")
        made.poll()
        with suppress(ConnectionError):
            writer.write(request())
            assert await answer(reader, writer) == b""
        await made.gateway.settle()
        assert made.verdicts == []  # it never said where it wanted to go
        assert made.gateway.connections == 0


async def test_everything_ends_at_the_moment_the_table_is_too_old():
    loop = asyncio.get_running_loop()
    async with cluster() as made:
        made.publish("runner-a")
        made.poll(max_age=10.0, asked=9.7)
        reader, writer = await made.dial()
        await until(lambda: made.gateway.connections == 1)
        assert made.gateway.fresh
        started = loop.time()
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(-1), 5) == b""
        writer.close()
        assert loop.time() - started < 0.8
        assert (made.gateway.fresh, made.gateway.runners, made.gateway.version) == (False, 0, "")
        reader, writer = await made.dial()
        writer.write(request())
        assert b"503 Service Unavailable (table_stale)" in await answer(reader, writer)


async def test_a_table_that_is_too_old_on_arrival_serves_nobody():
    async with cluster() as made:
        made.publish("runner-a")
        made.poll(max_age=10.0, asked=11.0)
        reader, writer = await made.dial()
        writer.write(request())
        assert b"(table_stale)" in await answer(reader, writer)
        assert made.verdicts == []


async def test_connections_of_an_ended_runner_are_cut_before_anything_else_happens():
    async with cluster() as made:
        made.publish("runner-a")
        made.publish("runner-b", "127.0.0.2")
        made.poll()
        _, writer = await made.dial()
        await until(lambda: made.gateway.connections == 1)
        (connection,) = made.gateway._runners["runner-a"].connections
        made.publication.remove("runner-a")
        made.poll()
        assert connection.transport.is_closing()  # no turn of the loop in between
        writer.close()


async def test_who_shares_an_address_is_counted_as_who_it_is():
    async with cluster(max_connections=1) as made:
        made.publish("runner-a", credential="a")
        made.publish("runner-b", credential="b")  # the latest at the address
        made.poll()
        for name in ("a", "b", "a", "b"):
            reader, writer = await made.dial()
            writer.write(request(name))
            assert b"(host_not_listed)" in await answer(reader, writer)
            await until(lambda: made.gateway.connections == 0)
        assert [name for name, _ in made.verdicts] == ["runner-a", "runner-b"] * 2


async def test_a_stopping_gateway_serves_no_new_request():
    async with cluster() as made:
        made.publish("runner-a")
        made.poll()
        reader, writer = await made.dial()
        await until(lambda: made.gateway.connections == 1)
        made.gateway.stopping = True
        writer.write(request())
        assert b"503 Service Unavailable (gateway_stopping)" in await answer(reader, writer)
