"""The runner API on one listener for each runner: what an agent and its job reach from inside their sandbox.

A credential is only good on the listener of the very runner it was made for: a token that turns up on
another runner's listener was stolen, so it is refused and an alarm goes on both jobs.

Each listener has a low-level aiohttp server of its own whose handler already knows the runner, so no
table from connection to runner can ever be wrong.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.lifecycle.ports import RunnerCredentials, RunnerIdentity
from orchestrator.model.events import AlarmRaised
from orchestrator.model.runner import RunnerName
from orchestrator.server.entrance.connection import ConnectionLimits, connection_factory
from orchestrator.server.entrance.edge import bearer_token
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.runner.handlers import (
    ARTIFACTS_PATH,
    ATTESTATIONS_PATH,
    CLAIM_PATH,
    DEPLOYMENT_PATH,
    MAX_ALARMS,
    MAX_TOKEN_CHARS,
    TOKEN_PATH,
    TRACES_PATH,
    RunnerDeps,
    RunnerHandlers,
    RunnerLimits,
    Seat,
    answered,
    require_post,
)
from orchestrator.server.runner.naming import JOB_PATH
from orchestrator.server.runner.work import RunnerEndpoints

__all__ = ["RunnerApi", "RunnerApiDeps", "RunnerLimits"]

log = logging.getLogger("orchestrator.server.runner.listeners")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerApiDeps(RunnerDeps):
    """What the runner API needs."""

    credentials: RunnerCredentials
    endpoints: RunnerEndpoints = field(default_factory=RunnerEndpoints)


@dataclass(slots=True, eq=False)
class _Origin:
    """One runner's listener."""

    seat: Seat
    http: web.Server
    listener: asyncio.Server


class RunnerApi:
    """Serves the listening sockets that the backend hands over; `close` each when its runner is gone."""

    def __init__(self, deps: RunnerApiDeps) -> None:
        self._deps = deps
        self._handlers = RunnerHandlers(deps)
        self._origins: dict[RunnerName, _Origin] = {}
        self._routes: Mapping[str, Callable[[Seat, web.BaseRequest], Awaitable[web.Response]]] = {
            CLAIM_PATH: self._claim,
            JOB_PATH: self._job,
            TOKEN_PATH: self._token,
            ARTIFACTS_PATH: self._artifact,
            ATTESTATIONS_PATH: self._attestation,
            DEPLOYMENT_PATH: self._deployment,
            TRACES_PATH: self._spans,
        }

    async def serve(self, runner: RunnerName, uid: str, listener: socket.socket) -> None:
        """Answer on a bound, listening socket for exactly this runner; the socket is ours from now on.

        A runner that is served already is replaced, for only its newest uid can be alive.
        """
        await self.close(runner)
        limits = self._deps.limits
        identity = RunnerIdentity(runner, uid)
        http: web.Server = web.Server(partial(self._handle, identity))
        listener.setblocking(False)
        try:
            server = await asyncio.get_running_loop().create_server(
                connection_factory(http, ConnectionLimits(limits.max_connections, limits.idle_seconds)),
                sock=listener,
                backlog=limits.max_connections,
            )
        except BaseException:
            listener.close()
            raise
        self._origins[runner] = _Origin(Seat(identity), http, server)

    async def close(self, runner: RunnerName) -> None:
        """Stop listening for a runner and cut its connections. Unknown runners are fine."""
        origin = self._origins.pop(runner, None)
        if origin is not None:
            origin.listener.close()
            origin.http.pre_shutdown()
            await origin.http.shutdown(0.1)
            await self._handlers.leave(origin.seat)

    async def stop(self) -> None:
        """Close every listener."""
        await asyncio.gather(*(self.close(runner) for runner in list(self._origins)))

    async def _handle(self, identity: RunnerIdentity, request: web.BaseRequest) -> web.StreamResponse:
        async def routed() -> web.Response:
            origin = self._origins.get(identity.name)
            if origin is None or origin.seat.identity != identity:
                raise GiveUpError("This runner is over.", reason="runner_unknown")
            route = self._routes.get(request.path)
            if route is None:
                raise ProblemError("There is nothing here.", reason="not_found")
            require_post(request)
            return await route(origin.seat, request)

        return await answered(routed, request, identity.name)

    async def _verified(self, seat: Seat, credential: str) -> Seat:
        """The listener's own runner, if the credential is that runner's; GiveUpError `runner_unknown` if not."""
        presented = await self._deps.credentials.verify(credential)
        if presented != seat.identity:
            if presented is not None:
                await self._alarm(seat, presented)
            raise GiveUpError("The runner credential is not valid here.", reason="runner_unknown")
        self._handlers.mask(presented, credential)
        return seat

    async def _alarm(self, seat: Seat, presented: RunnerIdentity) -> None:
        here = seat.identity
        log.error("runner credential on a foreign listener", extra={"runner": here.name, "owner": presented.name})
        if seat.alarms >= MAX_ALARMS:
            return
        seat.alarms += 1
        detail = f"the credential of runner {presented.name} was presented by runner {here.name}"
        for name in {here.name, presented.name}:
            record = self._deps.engine.record_of_runner(name)
            if record is not None:
                await self._deps.engine.note(record.id, AlarmRaised("runner_credential_misused", detail))

    async def _claim(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        await self._verified(seat, bearer_token(request, MAX_TOKEN_CHARS))
        proof = await self._handlers.read_claim(request)
        record, pool = await self._handlers.claim(seat, proof)
        return await self._handlers.work(record, pool, self._deps.endpoints)

    async def _job(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        await self._verified(seat, bearer_token(request, MAX_TOKEN_CHARS))
        return await self._handlers.job(seat, request)

    async def _token(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        return await self._handlers.token(partial(self._verified, seat), request)

    async def _artifact(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        await self._verified(seat, bearer_token(request, MAX_TOKEN_CHARS))
        return await self._handlers.artifact(seat, request)

    async def _attestation(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        await self._verified(seat, bearer_token(request, MAX_TOKEN_CHARS))
        return await self._handlers.attestation(seat, request)

    async def _deployment(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        await self._verified(seat, bearer_token(request, MAX_TOKEN_CHARS))
        return await self._handlers.deployment(seat, request)

    async def _spans(self, seat: Seat, request: web.BaseRequest) -> web.Response:
        """The listener alone identifies the sender: exporters send no token."""
        return await self._handlers.spans(seat, request)
