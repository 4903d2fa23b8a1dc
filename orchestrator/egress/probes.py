"""What the cluster asks of a gateway: is it alive, may it be given traffic, what has it counted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from orchestrator.egress.batch import Outbox
from orchestrator.egress.cluster import ClusterGateway
from orchestrator.egress.feed import Feed
from orchestrator.model.events import EgressDecided

PREFIX = "orchestrator_gateway"


class GatewayMetrics:
    """Counts for Prometheus. Labels hold only words of ours."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._verdicts = Counter(
            "connection", "Connections by verdict.", ("verdict", "reason"), namespace=PREFIX, registry=self._registry
        )
        self._bytes = Counter("bytes", "Payload.", ("direction",), namespace=PREFIX, registry=self._registry)

    def verdict(self, verdict: EgressDecided) -> None:
        if verdict.canary:
            return
        word = "allow" if verdict.allowed else "deny"
        self._verdicts.labels(word, verdict.reason).inc(verdict.connections)
        self._bytes.labels("up").inc(verdict.bytes_up)
        self._bytes.labels("down").inc(verdict.bytes_down)

    def watch(self, gateway: ClusterGateway, outbox: Outbox, feed: Feed) -> None:
        """Read these when scraped."""
        self._gauge("table_fresh", "1 while there is a table fresh enough to serve by.", lambda: float(gateway.fresh))
        self._gauge("runners", "Runners in the table.", lambda: gateway.runners)
        self._gauge("connections", "Open connections.", lambda: gateway.connections)
        self._gauge("verdicts_waiting", "Verdicts that the daemon has not taken yet.", lambda: len(outbox))
        counts: Mapping[str, tuple[str, Callable[[], Mapping[str, int]]]] = {
            "stranger": ("Connections from addresses of no runner.", lambda: gateway.strangers.refused),
            "daemon_request": ("Requests to the daemon.", lambda: feed.counts),
            "credential_misuse": ("Credentials that came from elsewhere.", lambda: {"": gateway.misuses}),
            "verdict_lost": ("Verdicts that could not be delivered.", lambda: {"": outbox.lost}),
        }
        for name, (meaning, read) in counts.items():
            self._registry.register(_Counts(f"{PREFIX}_{name}", meaning, read))

    def render(self) -> tuple[bytes, str]:
        return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_PLAIN_0_0_4

    def _gauge(self, name: str, meaning: str, read: Callable[[], float]) -> None:
        Gauge(name, meaning, namespace=PREFIX, registry=self._registry).set_function(read)


class _Counts(Collector):
    """A counter that somebody else counts, by reason where there is one."""

    def __init__(self, name: str, meaning: str, read: Callable[[], Mapping[str, int]]) -> None:
        self._name = name
        self._meaning = meaning
        self._read = read

    def collect(self) -> Iterable[CounterMetricFamily]:
        counts = self._read()
        plain = set(counts) == {""}
        family = CounterMetricFamily(self._name, self._meaning, labels=[] if plain else ["reason"])
        for reason, count in counts.items():
            family.add_metric([] if plain else [reason], count)
        yield family


@contextlib.asynccontextmanager
async def serve_probes(
    listener: socket.socket, gateway: ClusterGateway, metrics: GatewayMetrics
) -> AsyncIterator[None]:
    """Answer `/healthz`, `/readyz` and `/metrics` on a listening socket."""

    async def answer(request: web.BaseRequest) -> web.Response:
        match request.path:
            case "/healthz":
                return _json(200, {"status": "ok"})
            case "/readyz":
                table = "ok" if gateway.fresh else "there is no fresh table of runners"
                serving = "draining" if gateway.draining else "ok"
                ready = table == serving == "ok"
                return _json(200 if ready else 503, {"ready": ready, "checks": {"table": table, "accepting": serving}})
            case "/metrics":
                body, content_type = metrics.render()
                return web.Response(body=body, headers={"Content-Type": content_type})
            case _:
                return _json(404, {"reason": "not_found"})

    http = web.Server(answer, access_log=None)
    runner = web.ServerRunner(http, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def _json(status: int, document: object) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json", headers=headers
    )
