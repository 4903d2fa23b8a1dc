"""The public API put together: handlers by route table, one edge, one listener."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from orchestrator import __version__
from orchestrator.errors import ConfigurationError
from orchestrator.server import schemas
from orchestrator.server.accounts.handlers import Accounts
from orchestrator.server.approvals.handlers import Approvals
from orchestrator.server.artifacts.handlers import Artifacts
from orchestrator.server.audit import Audit
from orchestrator.server.deps import Limits, ServerDeps
from orchestrator.server.dispatch import Jobs, json_response
from orchestrator.server.entrance.body import read_query
from orchestrator.server.entrance.connection import ConnectionLimits, seated_factory
from orchestrator.server.entrance.edge import add_headers, make_edge
from orchestrator.server.feed import FactFeed
from orchestrator.server.health import Health
from orchestrator.server.keys.handlers import Keys
from orchestrator.server.notifications.handlers import Notifications
from orchestrator.server.oidc import Oidc
from orchestrator.server.openapi import document
from orchestrator.server.operating.handlers import Operating
from orchestrator.server.page.board import Board
from orchestrator.server.page.broadcast import Broadcast
from orchestrator.server.page.files import Files
from orchestrator.server.page.live_api import LiveApi
from orchestrator.server.page.overview import Overview
from orchestrator.server.page.session_api import SessionApi
from orchestrator.server.page.sign_in import SignIn
from orchestrator.server.policy.handlers import PolicyCheck
from orchestrator.server.receipts import Receipts
from orchestrator.server.routes import OPERATIONS
from orchestrator.server.sources.handlers import Sources
from orchestrator.server.sources.webhooks import Webhooks
from orchestrator.server.streams import Streams
from orchestrator.server.trust.handlers import Trust
from orchestrator.server.why import Reasons

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(deps: ServerDeps) -> web.Application:
    """The application with every operation of the route table. Streams end when it shuts down."""
    app = web.Application(middlewares=[make_edge(deps)], client_max_size=deps.limits.max_body_bytes)
    feed = FactFeed(deps.reader, capacity=deps.limits.stream_buffer_facts, max_followers=deps.limits.max_streams)
    board = Board(deps.reader, deps.engine.record)
    overview = Overview(deps, board)
    broadcast = Broadcast(deps, board, overview)
    live = LiveApi(deps, board, overview, broadcast)
    handlers = {**_handlers(deps, feed), **_page_handlers(deps, live)}
    for operation in OPERATIONS:
        app.router.add_route(operation.method, operation.path, handlers[operation.id], name=operation.id)
    app.on_response_prepare.append(add_headers)

    async def begin(_app: web.Application) -> None:
        await overview.open()
        await board.open(deps.engine.live_ids())
        broadcast.start()

    async def end_streams(_app: web.Application) -> None:
        feed.close()
        await broadcast.stop()
        overview.close()
        board.close()
        if deps.page is not None:
            await deps.page.close()

    app.on_startup.append(begin)
    app.on_shutdown.append(end_streams)
    return app


def _handlers(deps: ServerDeps, feed: FactFeed) -> Mapping[str, Handler]:
    jobs = Jobs(deps)
    trust, audit = Trust(deps, jobs), Audit(deps)
    keys, artifacts = Keys(deps, jobs), Artifacts(deps, jobs)
    accounts, notifications = Accounts(deps, jobs), Notifications(deps, jobs)
    streams, receipts = Streams(deps, jobs, feed), Receipts(deps, jobs)
    approvals = Approvals(deps, jobs)
    described: dict[str, Any] = document(__version__)

    async def openapi(request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return json_response(described)

    return {
        "dispatch_job": jobs.dispatch_job,
        "list_jobs": jobs.list_jobs,
        "get_job": jobs.get_job,
        "cancel_job": jobs.cancel_job,
        "read_trace": jobs.read_trace,
        "explain_job": Reasons(deps, jobs).explain_job,
        "read_receipt": receipts.read_receipt,
        "evidence_key": receipts.evidence_key,
        "explain_trust": trust.explain_trust,
        "trust_inventory": trust.trust_inventory,
        "check_policy": PolicyCheck(deps).check_policy,
        **Operating(deps, jobs).handlers(),
        "submit_approval": approvals.submit_approval,
        "list_approvals": approvals.list_approvals,
        "read_approval": approvals.read_approval,
        "revoke_approval": approvals.revoke_approval,
        "list_artifacts": artifacts.list_artifacts,
        "get_artifact": artifacts.get_artifact,
        "upload_attestation": artifacts.upload_attestation,
        "read_attestation": artifacts.read_attestation,
        "read_summary": artifacts.read_summary,
        "list_secrets": accounts.list_secrets,
        "rotate_secret": accounts.rotate_secret,
        "retire_secret": accounts.retire_secret,
        "retire_pipeline": accounts.retire_pipeline,
        "read_inventory": accounts.read_inventory,
        "read_scorecard": accounts.read_scorecard,
        "list_keys": keys.list_keys,
        "revoke_key": keys.revoke_key,
        "rotate_keys": keys.rotate_keys,
        **notifications.handlers(),
        "list_pools": jobs.list_pools,
        "list_sources": Sources(deps).list_sources,
        "read_log": streams.read_log,
        "read_events": streams.read_events,
        "audit_checkpoint": audit.checkpoint,
        "audit_key": audit.key,
        **_open_handlers(deps),
        "openapi": openapi,
    }


def _open_handlers(deps: ServerDeps) -> Mapping[str, Handler]:
    """Those that ask for no caller."""
    oidc, health = Oidc(deps), Health(deps)
    return {
        "introspect": oidc.introspect,
        "github_webhook": Webhooks(deps.webhooks, deps.limits).receive,
        "discovery": oidc.discovery,
        "authorization_server": oidc.authorization_server,
        "jwks": oidc.jwks,
        "issuer_discovery": oidc.discovery,
        "issuer_authorization_server": oidc.discovery,
        "issuer_jwks": oidc.jwks,
        "health": health.health,
        "readiness": health.readiness,
        "metrics": health.metrics,
    }


def _page_handlers(deps: ServerDeps, live: LiveApi) -> Mapping[str, Handler]:
    files, session, sign_in = Files(deps), SessionApi(deps), SignIn(deps)
    return {
        "page_index": files.page_index,
        "page_file": files.page_file,
        "read_session": session.read_session,
        "make_link": session.make_link,
        "redeem_code": session.redeem_code,
        "end_session": session.end_session,
        "begin_sign_in": sign_in.begin_sign_in,
        "finish_sign_in": sign_in.finish_sign_in,
        "read_overview": live.read_overview,
        "list_live_jobs": live.list_live_jobs,
        "read_live": live.read_live,
        "list_activity": live.list_activity,
    }


class ApiServer:
    """Serves the application on one TCP address until `stop`."""

    def __init__(self, app: web.Application, limits: Limits) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=5.0)
        self._limits = limits
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address and port in use (port 0 takes a free one).

        Raises:
            ConfigurationError: `address_in_use`: the address cannot be listened on.
        """
        listener = bind_listener(host, port)
        await self.serve(listener)
        address = listener.getsockname()
        return str(address[0]), int(address[1])

    async def serve(self, listener: socket.socket) -> None:
        """Serve a socket from `bind_listener`, and own it from now on."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None, "setup makes the server"
        limits = ConnectionLimits(self._limits.max_connections, self._limits.idle_seconds)
        factory = seated_factory(server, limits)
        self._listener = await asyncio.get_running_loop().create_server(factory, sock=listener, backlog=1024)

    async def stop(self) -> None:
        """Take no new connection, end the streams, let requests finish for a few seconds, then cut."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._runner.cleanup()


def bind_listener(host: str, port: int) -> socket.socket:
    """A listening TCP socket, so that the address is known before anything that names it is made.

    Raises:
        ConfigurationError: `address_in_use`: the address cannot be listened on.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            reason="address_in_use",
            fix="choose another server.host or server.port, or stop what listens there",
        ) from error
    listener.setblocking(False)
    return listener
