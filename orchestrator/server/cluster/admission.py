"""The HTTPS listener that a cluster's API server asks before it starts a workload.

Whatever goes wrong, nothing starts: an answer other than an AdmissionReview that allows is a refusal for an API server
whose webhook has `failurePolicy: Fail`, and so is none in time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.server.cluster.admission_review import Answer, Workload, answer_review, read_review
from orchestrator.server.cluster.pod_demands import ReviewError
from orchestrator.server.entrance.body import read_body, require_media_type
from orchestrator.server.entrance.connection import ConnectionLimits
from orchestrator.server.entrance.edge import SECURITY_HEADERS
from orchestrator.server.entrance.edge import answer as problem_of
from orchestrator.server.entrance.peers import PeerLimits, Peers
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.entrance.tls_entrance import TlsEntrance
from orchestrator.server.runner.handlers import require_post

log = logging.getLogger("orchestrator.server.cluster.admission")

REVIEW_PATH = "/admission/v1/review"

MAX_REVIEW_BYTES = 8 << 20
"""A request to an API server may have 3 MiB, and a review holds the object as it is and as it was."""

Gate = Callable[[Workload], Awaitable[Answer]]
"""May this start. Raises nothing but TryAgainError, which refuses; may be cancelled."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Times in seconds. An answer is given within `answer_seconds`; `at_once` reviews are judged at a time. Of those
    with more than `usual_bytes`, only `large_at_once` are taken in at a time: whoever reaches the port makes us keep no
    more of them.

    A connection may be idle for longer than an API server leaves it so (90), or that would sometimes ask on one that we
    have just closed.
    """

    answer_seconds: float = 9.5
    at_once: int = 64
    usual_bytes: int = 256 << 10
    large_at_once: int = 8
    handshake_seconds: float = 5.0
    connections: ConnectionLimits = field(default_factory=lambda: ConnectionLimits(512, idle_seconds=120))
    peers: PeerLimits = field(default_factory=lambda: PeerLimits(connections=256, connect_burst=256))


class AdmissionServer:
    """`serve` once, then `stop`. `client_names` are the common names of API servers' certificates that may ask; with
    none, whoever the listener's TLS context lets in."""

    def __init__(
        self, gate: Gate, limits: AdmissionLimits | None = None, client_names: frozenset[str] = frozenset()
    ) -> None:
        self._gate = gate
        self._limits = limits or AdmissionLimits()
        self._names = client_names
        self._peers = Peers(self._limits.peers, asyncio.get_running_loop().time)
        self._judging = asyncio.Semaphore(self._limits.at_once)
        self._large = asyncio.Semaphore(self._limits.large_at_once)
        self._http: web.Server = web.Server(self._handle)
        self._entrance: TlsEntrance | None = None

    async def serve(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        """Answer on a bound, listening socket; it is ours from now on."""
        listener.setblocking(False)
        limits = self._limits
        self._entrance = TlsEntrance(self._http, context, limits.connections, self._peers, limits.handshake_seconds)
        self._entrance.open(listener)

    async def stop(self) -> None:
        """Stop listening, and cut what is open: who is not answered does not start. Idempotent."""
        if self._entrance is not None:
            await self._entrance.stop()
        self._http.pre_shutdown()
        await self._http.shutdown(1.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._routed(request)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- the border: everything becomes a problem document
            response = problem_of(error, request)
            reason = getattr(error, "reason", "")
            extra = {"status": response.status, "reason": reason, "peer": request.remote or ""}
            log.warning("a question of an API server is not answered, which refuses", extra=extra)
        response.headers.update(SECURITY_HEADERS)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _routed(self, request: web.BaseRequest) -> web.Response:
        self._require_name(request)
        if request.path != REVIEW_PATH:
            raise ProblemError("There is nothing here.", reason="not_found")
        require_post(request)
        return await self._review(request)

    def _require_name(self, request: web.BaseRequest) -> None:
        if not self._names:
            return
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        subject = certificate.get("subject", ()) if certificate else ()
        names = {value for part in subject for key, value in part if key == "commonName"}
        if not names & self._names:
            raise GiveUpError(
                "The client certificate has none of the names that may ask here.",
                reason="api_server_unknown",
                fix="list its common name under deployment.webhook.client_names",
            )

    async def _review(self, request: web.BaseRequest) -> web.Response:
        require_media_type(request, "application/json")
        seconds = self._limits.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                workload = await self._workload(request)
                async with self._judging:
                    answer = await self._gate(workload)
        except TimeoutError:
            raise TryAgainError(
                f"The workload could not be judged within {seconds:g} seconds, so it does not start.",
                reason="temporarily_unavailable",
            ) from None
        return web.Response(body=answer_review(workload.uid, answer), content_type="application/json")

    async def _workload(self, request: web.BaseRequest) -> Workload:
        usual, seconds = self._limits.usual_bytes, self._limits.answer_seconds
        if request.content_length is not None and request.content_length <= usual:
            return _read(await read_body(request, limit_bytes=usual, timeout_seconds=seconds))
        async with self._large:
            return _read(await read_body(request, limit_bytes=MAX_REVIEW_BYTES, timeout_seconds=seconds))


def _read(body: bytes) -> Workload:
    try:
        return read_review(body)
    except ReviewError as error:
        raise ProblemError(
            f"The review is refused: {error}.",
            reason="review_unfit",
            fix="send what the rendered ValidatingWebhookConfiguration selects, and nothing else",
        ) from None
