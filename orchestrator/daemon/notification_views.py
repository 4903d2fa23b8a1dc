"""What the API and the metrics show of endpoints of notifications: never more of an address than its host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.errors import TryAgainError
from orchestrator.evidence.provenance import timestamp
from orchestrator.identity.webhook_keys import PrivateKey, WebhookSigner
from orchestrator.notifications.endpoint import EndpointState
from orchestrator.notifications.schedule import SECOND

_Reading = tuple[str, str, Callable[[EndpointState], float]]

GAUGES: Sequence[_Reading] = (
    ("outbox_messages", "Messages that wait for the endpoint.", lambda one: one.waiting),
    ("outbox_bytes", "Bytes of the messages that wait for the endpoint.", lambda one: one.waiting_bytes),
    (
        "oldest_timestamp_seconds",
        "Unix time of what the oldest waiting message tells; 0: none.",
        lambda one: one.oldest_at_ns / SECOND,
    ),
    ("endpoint_failing", "1 while the last try of the endpoint failed.", lambda one: float(one.failing is not None)),
    ("endpoint_disabled", "1 while the endpoint is gone and nothing is sent.", lambda one: float(bool(one.disabled))),
)
COUNTS: Sequence[_Reading] = (
    ("delivered", "Messages that the endpoint took.", lambda one: one.delivered),
    ("failed", "Tries that failed.", lambda one: one.failed),
    ("dropped", "Messages that were given up.", lambda one: one.dropped),
)


def endpoint_view(state: EndpointState, signer: WebhookSigner | None) -> Mapping[str, Any]:
    """See `notification_shapes.EndpointView`."""
    endpoint, failing = state.endpoint, state.failing
    return {
        "name": endpoint.name,
        "host": endpoint.host,
        "format": endpoint.format.value,
        "state": "disabled" if state.disabled else "failing" if failing else "active",
        "disabled_at": _moment(state.disabled_at_ns),
        "events": list(endpoint.filter.events),
        "pools": sorted(endpoint.filter.pools),
        "results": sorted(endpoint.filter.results),
        "waiting": state.waiting,
        "waiting_bytes": state.waiting_bytes,
        "oldest_at": _moment(state.oldest_at_ns),
        "delivered": state.delivered,
        "failed": state.failed,
        "dropped": state.dropped_ever,
        "delivered_at": _moment(state.delivered_at_ns),
        "next_try_at": _moment(state.next_try_ns) if failing else None,
        "failure": {
            "reason": failing.reason,
            "message": failing.message,
            "fix": failing.fix,
            "since": _moment(failing.since_ns),
        }
        if failing
        else None,
        "public_keys": _public_keys(signer),
    }


def _public_keys(signer: WebhookSigner | None) -> list[str]:
    try:
        return [key.public for key in signer.present() if isinstance(key, PrivateKey)] if signer is not None else []
    except TryAgainError:
        return []  # what is wrong with the files is said where a message could not be signed


def _moment(at_ns: int) -> str | None:
    return timestamp(at_ns) if at_ns else None
