"""The gateway of a cluster as a program: listen, poll, report, answer probes, drain.

It works as any user, writes no file, and holds no secret but its own token: credentials are known by digest only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.egress.batch import Outbox
from orchestrator.egress.cluster import ClusterGateway
from orchestrator.egress.config import GatewayConfig
from orchestrator.egress.feed import Feed, FeedConfig, gateway_name
from orchestrator.egress.probes import GatewayMetrics, serve_probes
from orchestrator.egress.resolve import Lookup
from orchestrator.errors import ConfigurationError
from orchestrator.model.events import EgressDecided
from orchestrator.model.runner import RunnerName

log = logging.getLogger("orchestrator.egress")

BACKLOG = 1024
LAST_WORDS_SECONDS = 5.0
"""Longest wait for the last verdicts to be delivered."""
RESERVED_FILES = 256
"""Descriptors that connections never take: listeners, resolver, the line to the daemon, probes."""
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Once told to end, the program takes new connections for `linger_seconds` more, until the cluster sends them
    elsewhere, and lets open ones go on for `drain_seconds` after that. `files` is how many descriptors it may have.
    """

    daemon_url: str
    ca_file: Path
    token_file: Path
    host: str = ""
    port: int = 3128
    probe_host: str = ""
    probe_port: int = 8457
    linger_seconds: float = 5.0
    drain_seconds: float = 20.0
    files: int = 1024
    egress: GatewayConfig = field(default_factory=GatewayConfig)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the program listens, for those who let it choose its ports."""

    proxy: tuple[str, int]
    probes: tuple[str, int]


async def serve_gateway(
    config: ServiceConfig, ready: Callable[[Listening], None] | None = None, lookup: Lookup | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `ready` is called once everything listens.

    Raises:
        ConfigurationError: reason `address_in_use`.
    """
    stop = asyncio.Event()
    with _signals(stop.set):
        outbox = Outbox(gateway_name(socket.gethostname()))
        metrics = GatewayMetrics()

        def told(runner: RunnerName, verdict: EgressDecided) -> None:
            metrics.verdict(verdict)
            outbox.add(runner, verdict)
            feed.wake()

        def misused(owner: str, runner: str, address: str) -> None:
            outbox.misused(owner, runner, address)
            feed.wake()

        room = max((config.files - RESERVED_FILES) // 2, 16)  # each connection takes two descriptors
        gateway = ClusterGateway(config.egress, told, misused, lookup, max_connections=room)
        feed = Feed(FeedConfig(config.daemon_url, config.ca_file, config.token_file, outbox.gateway), gateway, outbox)
        metrics.watch(gateway, outbox, feed)
        async with _listening(config, gateway, metrics) as (server, where):
            log.info(
                "the gateway listens",
                extra={"gateway": outbox.gateway, "proxy_port": where.proxy[1], "probe_port": where.probes[1]},
            )
            await _work(config, gateway, feed, server, stop, where, ready)


async def _work(
    config: ServiceConfig,
    gateway: ClusterGateway,
    feed: Feed,
    server: asyncio.Server,
    stop: asyncio.Event,
    where: Listening,
    ready: Callable[[Listening], None] | None,
) -> None:
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(feed.run(), name="feed"), group.create_task(gateway.run(), name="gateway")]
        if ready is not None:
            ready(where)
        await stop.wait()
        log.info("draining", extra={"connections": gateway.connections, "limit_seconds": config.drain_seconds})
        # The feed goes on meanwhile: what is revoked during a drain ends at once all the same.
        gateway.draining = True
        await asyncio.sleep(config.linger_seconds)
        gateway.stopping = True
        server.close()
        await _quiet(gateway, config.drain_seconds)
        for task in work:
            task.cancel()
    await gateway.close()
    await feed.close(LAST_WORDS_SECONDS)
    log.info("stopped")


async def _quiet(gateway: ClusterGateway, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while gateway.connections and loop.time() < end:  # noqa: ASYNC110 -- once in a process's life, and short
        await asyncio.sleep(_LOOK_SECONDS)


@contextlib.asynccontextmanager
async def _listening(
    config: ServiceConfig, gateway: ClusterGateway, metrics: GatewayMetrics
) -> AsyncIterator[tuple[asyncio.Server, Listening]]:
    with contextlib.ExitStack() as sockets:
        proxy = sockets.enter_context(_bound(config.host, config.port))
        probes = sockets.enter_context(_bound(config.probe_host, config.probe_port))
        where = Listening(_address(proxy), _address(probes))
        server = await asyncio.get_running_loop().create_server(gateway.connection, sock=proxy, backlog=BACKLOG)
        async with serve_probes(probes, gateway, metrics):
            try:
                yield server, where
            finally:
                server.close()


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket; an empty host means every address, IPv4 and IPv6 where there is any.

    Raises:
        ConfigurationError: reason `address_in_use`.
    """
    try:
        if not host and socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host or 'every address'} port {port}: {error.strerror}",
            reason="address_in_use",
            fix="choose another address or port, or stop what listens there",
        ) from error
    listener.setblocking(False)
    return listener


def _address(listener: socket.socket) -> tuple[str, int]:
    name = listener.getsockname()
    return str(name[0]), int(name[1])


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
