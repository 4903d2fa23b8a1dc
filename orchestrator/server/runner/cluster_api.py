"""The runner API in a cluster: one HTTPS listener for all pods, who are known by their credential alone.

A claim, a token request and an artifact bring the pod's own token, which the cluster vouches for; spans bring the
job's credential, for exporters cannot follow a token that changes every few minutes. The gateways of the cluster
ask on the same listener, see `gateway_api`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.egress import EgressProof
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.server.entrance.connection import ConnectionLimits
from orchestrator.server.entrance.edge import bearer_token
from orchestrator.server.entrance.peers import PeerLimits, Peers
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.entrance.tls_entrance import TlsEntrance
from orchestrator.server.runner.handlers import (
    ARTIFACTS_PATH,
    ATTESTATIONS_PATH,
    CLAIM_PATH,
    DEPLOYMENT_PATH,
    MAX_TOKEN_CHARS,
    TOKEN_PATH,
    TRACES_PATH,
    Handler,
    RunnerDeps,
    RunnerHandlers,
    Seat,
    answered,
    require_post,
)
from orchestrator.server.runner.naming import JOB_PATH
from orchestrator.server.runner.work import RunnerEndpoints
from orchestrator.server.runner.work_files import WORK_SECONDS

log = logging.getLogger("orchestrator.server.runner.cluster_api")

UNPROVEN_PAUSE_SECONDS = 2.0
"""How long such a claim is held when its proof does not hold, so that nobody asks in a hurry."""
MAX_EXCUSED = 10_000
"""Pods remembered as having been told to prove anew for the job they were given."""
_JOB_BEARER = re.compile(r"[Bb]earer +([a-z0-9-]{1,253})\.([A-Za-z0-9_-]{43})")

HAND_OVER_SECONDS = WORK_SECONDS + 3.0
"""How long `stop` waits for runners that are bound and have not got their work yet: nobody gives it to them again."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod whose credential was verified, and where it asked from."""

    namespace: str
    name: str
    uid: str


class Runners(Protocol):
    """What the backend's room knows of its runners. All may raise TryAgainError: nobody is let in meanwhile."""

    async def pod(self, credential: str) -> Pod | None:
        """The pod that presents its token, if we have a use for it."""
        ...

    async def assigned(self, pod: Pod) -> RunnerIdentity | None:
        """The runner that this pod is; for a warm one without a job None, after waiting a while for one."""
        ...

    async def verify(self, credential: str) -> RunnerIdentity | None:
        """`lifecycle.ports.RunnerCredentials`."""
        ...

    def sender(self, name: RunnerName, job_credential: str) -> RunnerIdentity | None:
        """The running runner of this name, if that is its job's credential."""
        ...

    async def ready_to_bind(self, identity: RunnerIdentity) -> None:
        """Whatever may fail of what `bound` does, before the runner has its work.

        Raises:
            GiveUpError: reason `runner_unknown`: this pod gets no work.
        """
        ...

    async def bound(self, record: Record) -> RunnerEndpoints:
        """Give the runner's job its egress, and say what it reaches and with which credential."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """Bounds of the listener. A TLS handshake may take `handshake_seconds`."""

    connections: ConnectionLimits = field(default_factory=lambda: ConnectionLimits(8192, idle_seconds=60))
    peers: PeerLimits = field(default_factory=PeerLimits)
    handshake_seconds: float = 10.0


class ClusterApi:
    """`serve` once; `close` each runner at its job's end; `stop` at ours."""

    def __init__(
        self,
        deps: RunnerDeps,
        runners: Runners,
        gateway: Handler | None = None,
        limits: ClusterLimits | None = None,
    ) -> None:
        """`gateway` answers everything below `/gateway/`."""
        self._handlers = RunnerHandlers(deps)
        self._runners = runners
        self._gateway = gateway
        self._limits = limits or ClusterLimits()
        self._excused: dict[str, None] = {}
        self._peers = Peers(self._limits.peers, asyncio.get_running_loop().time)
        self._seats: dict[RunnerName, Seat] = {}
        self._http: web.Server = web.Server(self._handle)
        self._entrance: TlsEntrance | None = None
        self._handing_over = 0
        self._handed_over = asyncio.Event()
        self._handed_over.set()
        self._routes: Mapping[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            CLAIM_PATH: self._claim,
            JOB_PATH: partial(self._seated, self._handlers.job),
            TOKEN_PATH: self._token,
            ARTIFACTS_PATH: partial(self._seated, self._handlers.artifact),
            ATTESTATIONS_PATH: partial(self._seated, self._handlers.attestation),
            DEPLOYMENT_PATH: partial(self._seated, self._handlers.deployment),
            TRACES_PATH: self._spans,
        }

    async def serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Answer on a bound, listening socket; it is ours from now on."""
        listener.setblocking(False)
        limits = self._limits
        self._entrance = TlsEntrance(self._http, context, limits.connections, self._peers, limits.handshake_seconds)
        self._entrance.open(listener)

    async def close(self, runner: RunnerName) -> None:
        """Forget a runner; its credentials are refused by its record. Unknown runners are fine."""
        seat = self._seats.pop(runner, None)
        if seat is not None:
            await self._handlers.leave(seat)

    async def stop(self) -> None:
        """Stop listening, let bound runners have their work, and cut all connections. Idempotent."""
        if self._entrance is not None:
            await self._entrance.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._handed_over.wait()
        self._http.pre_shutdown()
        await self._http.shutdown(1.0)
        await asyncio.gather(*(self.close(runner) for runner in list(self._seats)))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/gateway/") and self._gateway is not None:
            return await self._guarded(self._gateway, request)

        async def routed() -> web.Response:
            route = self._routes.get(request.path)
            if route is None:
                raise ProblemError("There is nothing here.", reason="not_found")
            require_post(request)
            if not self._peers.trusted(_peer(request)):
                raise _distrusted()
            return await route(request)

        return await answered(routed, request, _peer(request))

    async def _guarded(self, handler: Handler, request: web.BaseRequest) -> web.Response:
        """A handler that tells nobody why it refused: its 401 counts as a wrong credential."""
        peer = _peer(request)

        async def refused() -> web.Response:
            raise _distrusted()

        if not self._peers.trusted(peer):
            return await answered(refused, request, peer)
        response = await handler(request)
        if response.status == 401:
            self._peers.failed(peer)
        return response

    # Who asks.

    def _seat(self, identity: RunnerIdentity) -> Seat:
        """The runner's own counts; a runner of the same name but another uid starts anew. Nothing is kept of one whose
        job has ended: it was closed already."""
        seat = self._seats.get(identity.name)
        if seat is None or seat.identity != identity:
            seat = Seat(identity)
            if not self._handlers.ended(identity):
                self._seats[identity.name] = seat
        return seat

    def _refusal(self, request: web.BaseRequest) -> GiveUpError:
        self._peers.failed(_peer(request))
        return GiveUpError("The runner credential is not valid here.", reason="runner_unknown")

    async def _verified(self, request: web.BaseRequest, credential: str) -> Seat:
        identity = await self._runners.verify(credential)
        if identity is None:
            raise self._refusal(request)
        self._handlers.mask(identity, credential)
        return self._seat(identity)

    # What they ask for.

    async def _claim(self, request: web.BaseRequest) -> web.Response:
        credential = bearer_token(request, MAX_TOKEN_CHARS)
        pod = await self._runners.pod(credential)
        if pod is None:
            raise self._refusal(request)
        proof = await self._handlers.read_claim(request)
        identity = await self._assigned(pod, proof)
        if identity is None:
            return web.Response(status=204)
        self._handlers.mask(identity, credential)
        await self._runners.ready_to_bind(identity)
        self._handing_over += 1
        self._handed_over.clear()
        try:
            record, pool = await self._handlers.claim(self._seat(identity), proof)
            return await self._handlers.work(record, pool, await self._runners.bound(record))
        finally:
            self._handing_over -= 1
            if not self._handing_over:
                self._handed_over.set()

    async def _assigned(self, pod: Pod, proof: EgressProof) -> RunnerIdentity | None:
        """A waiting pod without a proof that holds gets no job here: it proves anew first, since its gateway may
        only not have been there yet. Nor is it judged by what it tried before it had a job: once it may come again."""
        if proof.holds:
            return await self._runners.assigned(pod)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                identity = await self._runners.assigned(pod)
                if identity is None or identity.name == pod.name or pod.uid in self._excused:
                    return identity
                self._excused[pod.uid] = None
                while len(self._excused) > MAX_EXCUSED:
                    del self._excused[next(iter(self._excused))]
        await asyncio.sleep(UNPROVEN_PAUSE_SECONDS)
        return None

    async def _token(self, request: web.BaseRequest) -> web.Response:
        async def verified(credential: str) -> Seat:
            return await self._verified(request, credential)

        return await self._handlers.token(verified, request)

    async def _seated(
        self, answer: Callable[[Seat, web.BaseRequest], Awaitable[web.Response]], request: web.BaseRequest
    ) -> web.Response:
        return await answer(await self._verified(request, bearer_token(request, MAX_TOKEN_CHARS)), request)

    async def _spans(self, request: web.BaseRequest) -> web.Response:
        self._handlers.spans_welcome(request)
        headers = request.headers.getall("Authorization", [])
        said = _JOB_BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
        identity = self._runners.sender(RunnerName(said[1]), said[2]) if said else None
        if identity is None:
            raise self._refusal(request)
        return await self._handlers.spans(self._seat(identity), request)


def job_bearer(runner: RunnerName, job_credential: str) -> str:
    """What a runner's spans are authorised with. A runner's name has no dot, so the two cannot be confused."""
    return f"Bearer {runner}.{job_credential}"


def _peer(request: web.BaseRequest) -> str:
    return request.remote or ""


def _distrusted() -> TryAgainError:
    return TryAgainError(
        "Too many credentials from this address were refused.",
        reason="temporarily_unavailable",
        retry_after_seconds=5,
    )
