"""The gate of a cluster as a room of the daemon: its certificate, its listener, and what it asks."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.cluster.room import publish_ca
from orchestrator.daemon.operations.gauges import watch_gate
from orchestrator.daemon.promotion.deployment import DeploymentGate
from orchestrator.daemon.rooms import Rooms
from orchestrator.errors import ConfigurationError
from orchestrator.identity.serving_certificate import ADMISSION, ServingCertificate
from orchestrator.server.app import bind_listener
from orchestrator.server.cluster.admission import AdmissionLimits, AdmissionServer
from orchestrator.settings import Settings

_log = logging.getLogger("orchestrator")

_MARGIN_SECONDS = 0.5
"""How long before the API server gives up the answer is no: it then says why."""


class ClusterGate:
    """Open until the exit stack of `open_cluster_gate` closes it."""

    def __init__(self, certificate: ServingCertificate) -> None:
        self._certificate = certificate

    async def upkeep(self) -> None:
        """Renew the certificate near its end; a renewal is seen by the connections that come after it.

        Raises:
            TryAgainError: reason `keys_unavailable`.
        """
        if await asyncio.to_thread(self._certificate.renew):
            _log.info("the listener for API servers has a new certificate")


def deployment_gate(rooms: Rooms) -> DeploymentGate:
    """The gate over the rules and facts of the running daemon."""
    given = rooms.settings.deployment
    anchors = rooms.audit.anchors if rooms.audit is not None and rooms.audit.anchors.required else None
    gate = DeploymentGate(
        cluster=given.cluster,
        namespaces=dict(given.namespaces),
        enquire=rooms.decider.enquire,
        notes=rooms.notes,
        spend=rooms.approvals.spend,
        lacking=anchors.lacking if anchors is not None else str,
    )
    watch_gate(rooms.metrics, gate.counts)
    return gate


async def open_cluster_gate(settings: Settings, gate: DeploymentGate, stack: AsyncExitStack) -> ClusterGate | None:
    """Answer API servers; None where no namespace is guarded.

    Raises:
        ConfigurationError: the address cannot be had, or the CA of the API servers' certificates not be read.
    """
    given = settings.deployment
    if not given.namespaces:
        return None
    webhook = given.webhook
    host = urlsplit(webhook.url).hostname or ""
    certificate = ServingCertificate.open(settings.state_dir / "keys", host, time.time, ADMISSION)
    publish_ca(settings.state_dir, certificate.ca_pem)
    if webhook.client_ca_file is not None:
        demand_certificates(certificate.context, str(webhook.client_ca_file))
    limits = AdmissionLimits(answer_seconds=webhook.timeout_seconds - _MARGIN_SECONDS)
    server = AdmissionServer(gate, limits, frozenset(webhook.client_names))
    listener = bind_listener(webhook.host, webhook.port)
    await server.serve(listener, certificate.context)
    push_closing(stack, "gate of the cluster", server.stop)
    extra = {"url": webhook.url, "cluster": given.cluster, "namespaces": len(given.namespaces)}
    _log.info("the cluster's gate is open", extra=extra)
    return ClusterGate(certificate)


def demand_certificates(context: ssl.SSLContext, path: str) -> None:
    """Have the listener take only clients whose certificate a CA in this PEM file signed.

    Raises:
        ConfigurationError: reason `client_ca_unfit`.
    """
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or "it holds no certificate in PEM form"
        raise ConfigurationError(
            f"deployment.webhook.client_ca_file: {path} cannot be used: {why}",
            reason="client_ca_unfit",
            fix="name a PEM file with the CA that signs the API servers' client certificates",
        ) from None
    context.verify_mode = ssl.CERT_REQUIRED
