"""Of the daemons of one installation in a cluster one works. The others wait, and say so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from orchestrator.daemon.closing import push_closing
from orchestrator.server.entrance import problems
from orchestrator.server.entrance.connection import ConnectionLimits, connection_factory
from orchestrator.server.entrance.edge import SECURITY_HEADERS
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from orchestrator.backends.kubernetes.lease import LeaderLease

_log = logging.getLogger("orchestrator")

EXIT_NOT_LEADING = 1
_KUBERNETES = "kubernetes"
_RETRY_AFTER = "5"


async def lead(settings: Settings, listener: socket.socket, stack: AsyncExitStack) -> None:
    """Return when this daemon may work: at once, unless pools are in a cluster and the Lease is to be held.

    From then on the Lease is renewed. When it is lost this process ends there and then, with exit code 1: whatever it
    would still do could be what the next daemon does already. `stack` gives the Lease back at the very end.

    Raises:
        ConfigurationError: the cluster's configuration cannot be used, or we have no right to the Lease.
    """
    if not settings.kubernetes.lease or all(pool.backend != _KUBERNETES for pool in settings.pools):
        return
    # The client takes long to import, and who has no cluster never needs it.
    from orchestrator.backends.kubernetes.client import ApiClient
    from orchestrator.backends.kubernetes.lease import LeaderLease
    from orchestrator.daemon.cluster.slice import kubernetes_config

    given = settings.kubernetes
    client = await ApiClient.open(kubernetes_config(settings))
    push_closing(stack, "client of the Lease", client.close)
    holder = f"{socket.gethostname()[:200]}_{secrets.token_hex(8)}"
    lease = LeaderLease(client, given.namespace, f"orchestrator-{given.installation}", holder)
    async with _standing_by(listener, lambda: lease.waits_for):
        await lease.acquire()
        # To be told to stop while we cease to stand by must not cost the next daemon a Lease's whole duration.
        keeping = asyncio.get_running_loop().create_task(_keep(lease), name="lease")

        async def release() -> None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await lease.release()

        push_closing(stack, "Lease", release)


async def _keep(lease: LeaderLease) -> None:
    try:
        await lease.keep()
    except Exception as error:  # noqa: BLE001 -- whatever it is, nobody renews the Lease any more
        sys.stderr.write(f"orchestrator stops at once: {error} [{getattr(error, 'reason', 'internal_error')}]\n")
        sys.stderr.flush()
        os._exit(EXIT_NOT_LEADING)


@contextlib.asynccontextmanager
async def _standing_by(listener: socket.socket, waits_for: Callable[[], str]) -> AsyncIterator[None]:
    """Answer on the public address while another daemon works: alive, and not ready."""

    async def handle(request: web.BaseRequest) -> web.Response:
        if request.path == "/healthz":
            response = _json({"status": "ok"}, 200)
        elif request.path == "/readyz":
            response = _json({"ready": False, "checks": {"leader": waits_for() or "asking for the Lease"}}, 503)
        else:
            detail = "Another daemon of this installation works; this one stands by."
            response = problems.problem("temporarily_unavailable", detail, instance=request.path[:512])
        response.headers.update(SECURITY_HEADERS)
        response.headers["Retry-After"] = _RETRY_AFTER
        return response

    http: web.Server = web.Server(handle)
    own = listener.dup()
    own.setblocking(False)
    server = await asyncio.get_running_loop().create_server(
        connection_factory(http, ConnectionLimits(max_connections=64, idle_seconds=10)), sock=own
    )
    try:
        yield
    finally:
        server.close()
        http.pre_shutdown()
        await http.shutdown(0.5)


def _json(document: object, status: int) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")
