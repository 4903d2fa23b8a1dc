"""Notifications in the daemon: endpoints as configured, fed from the journal, and what the API shows of them."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.storage import Store
from orchestrator.egress.addresses import is_public
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.evidence.provenance import timestamp
from orchestrator.identity.webhook_keys import PrivateKey, WebhookSigner
from orchestrator.journal.trail import KeptJournal
from orchestrator.notifications.endpoint import Endpoint, EndpointState, Filter, Format
from orchestrator.notifications.messages import Origin
from orchestrator.notifications.notifier import Notifier, Surroundings
from orchestrator.notifications.outbox import Bounds
from orchestrator.notifications.schedule import SECOND, Schedule
from orchestrator.settings import Settings
from orchestrator.settings.notifications import NotificationEndpointSettings
from orchestrator.telemetry.ids import traceparent
from orchestrator.telemetry.metrics import Metrics

OUTBOX = "notifications.db"
"""In the state folder."""

_Reading = tuple[str, str, Callable[[EndpointState], float]]

_GAUGES: Sequence[_Reading] = (
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
_COUNTS: Sequence[_Reading] = (
    ("delivered", "Messages that the endpoint took.", lambda one: one.delivered),
    ("failed", "Tries that failed.", lambda one: one.failed),
    ("dropped", "Messages that were given up.", lambda one: one.dropped),
)


class NotificationDesk:
    """Implements `server.notification_port.NotificationDesk`. Without endpoints nothing is opened or done."""

    def __init__(self, notifier: Notifier | None, signers: Mapping[str, WebhookSigner]) -> None:
        self._notifier = notifier
        self._signers = signers

    def start(self, journal: KeptJournal, stack: AsyncExitStack) -> None:
        """Begin to tell. At the end what can be sent soon is sent; the rest waits on disk."""
        if self._notifier is not None:
            stack.callback(journal.subscribe(self._notifier.observe))
            self._notifier.start()

    def watch(self, metrics: Metrics) -> None:
        """Add the metrics; docs/reference/metrics.md lists them."""
        notifier = self._notifier

        def read(of: Callable[[EndpointState], float]) -> Callable[[], Mapping[str, float]]:
            return lambda: {one.endpoint.name: of(one) for one in notifier.states()} if notifier else {}

        def count(of: Callable[[EndpointState], float]) -> Callable[[], Mapping[tuple[str, ...], float]]:
            return lambda: {(one.endpoint.name,): of(one) for one in notifier.states()} if notifier else {}

        for name, documentation, of in _GAUGES:
            metrics.watch_words(f"notification_{name}", documentation, "endpoint", read(of))
        for name, documentation, of in _COUNTS:
            metrics.watch_counts(f"notification_{name}", documentation, ("endpoint",), count(of))
        lag = "Facts that were not looked at yet for notifications."
        metrics.watch("notification_lag_facts", lag, lambda: notifier.lag if notifier else 0)

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """See `notification_shapes.EndpointView`."""
        return [self._view(one) for one in self._notifier.states()] if self._notifier else []

    async def test(self, name: str) -> Mapping[str, Any]:
        """Send a test message now. GiveUpError `endpoint_unknown`."""
        message_id, delivery = await self._known().trial(name)
        return {
            "endpoint": name,
            "message_id": message_id,
            "delivered": delivery.delivered,
            "status": delivery.status or None,
            "seconds": round(delivery.seconds, 3),
            "reason": delivery.reason,
            "detail": delivery.detail,
        }

    async def retry(self, name: str) -> Mapping[str, Any]:
        """Try now what waits. GiveUpError `endpoint_unknown`; TryAgainError `notifications_unwritable`."""
        return self._view(await self._known().retry(name))

    def _known(self) -> Notifier:
        if self._notifier is None:
            raise GiveUpError(
                "No endpoint of notifications is configured.",
                reason="endpoint_unknown",
                fix="add it to notifications.endpoints of the settings",
            )
        return self._notifier

    def _view(self, state: EndpointState) -> Mapping[str, Any]:
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
            "public_keys": self._public_keys(endpoint.name),
        }

    def _public_keys(self, name: str) -> list[str]:
        try:
            return [key.public for key in self._signers[name].present() if isinstance(key, PrivateKey)]
        except TryAgainError:
            return []  # what is wrong with the files is said where a message could not be signed


async def open_notifications(
    settings: Settings, store: Store, url: str, clock: SystemClock, stack: AsyncExitStack
) -> NotificationDesk:
    """As configured. Nothing is sent yet.

    Raises:
        ConfigurationError: reason `notifications_unusable`, `notification_ca_unusable`, or a key's.
    """
    given = settings.notifications
    if not given.endpoints:
        return NotificationDesk(None, {})
    signers = {one.name: WebhookSigner(one.key_files) for one in given.endpoints}
    near = Surroundings(
        journal=store.journal,
        origin=Origin(url, traceparent),
        mask=store.masker.text,
        public=is_public,
        now_ns=clock.now_ns,
        schedule=Schedule(random.random),
        tls={one.name: _tls(one.name, one.ca_file) for one in given.endpoints if one.ca_file},
    )
    bounds = Bounds(given.max_messages, given.max_bytes, given.max_age_seconds)
    endpoints = [endpoint_of(one, signers[one.name]) for one in given.endpoints]
    notifier = await Notifier.open(settings.state_dir / OUTBOX, endpoints, bounds, near)
    push_closing(stack, "notifications", notifier.stop)
    return NotificationDesk(notifier, signers)


def endpoint_of(given: NotificationEndpointSettings, signer: WebhookSigner) -> Endpoint:
    """An endpoint in its room's words.

    Raises:
        ConfigurationError: reason `webhook_key_unfit`: a key cannot be used now.
    """
    try:
        signer.present()
    except TryAgainError as error:
        raise ConfigurationError(
            f"notifications.endpoints: {given.name}: {error}", reason="webhook_key_unfit", fix=error.fix
        ) from None
    return Endpoint(
        name=given.name,
        url=given.url,
        format=Format(given.format),
        filter=Filter(given.events, frozenset(given.pools), frozenset(given.results)),
        sign=signer.sign if given.key_files else None,
        sentences=given.sentences,
        private=given.allow_private,
        timeout_seconds=given.timeout_seconds,
    )


def try_endpoints(settings: Settings) -> None:
    """Look at every file that an endpoint needs.

    Raises:
        ConfigurationError: the daemon could not start with it.
    """
    for one in settings.notifications.endpoints:
        endpoint_of(one, WebhookSigner(one.key_files))
        if one.ca_file:
            _tls(one.name, one.ca_file)


def _tls(name: str, ca_file: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"notifications.endpoints: {name}: the CA file {ca_file} cannot be used: {error.strerror or error}",
            reason="notification_ca_unusable",
            fix="name a PEM file with the certificates of the endpoint's CA",
        ) from error
    return context


def _moment(at_ns: int) -> str | None:
    return timestamp(at_ns) if at_ns else None
