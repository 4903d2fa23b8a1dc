"""Notifications in the daemon: endpoints as configured, fed from the journal, and what the API shows of them."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.notification_views import COUNTS, GAUGES, endpoint_view
from orchestrator.daemon.storage import Store
from orchestrator.egress.addresses import is_public
from orchestrator.errors import ConfigurationError, GiveUpError, TryAgainError
from orchestrator.identity.webhook_keys import WebhookSigner
from orchestrator.journal.trail import KeptJournal
from orchestrator.model.events import Fact
from orchestrator.notifications.endpoint import Endpoint, EndpointState, Filter, Format
from orchestrator.notifications.messages import Origin
from orchestrator.notifications.notifier import Notifier, Surroundings
from orchestrator.notifications.outbox import Bounds
from orchestrator.notifications.schedule import Schedule
from orchestrator.settings import Settings
from orchestrator.settings.notifications import NotificationEndpointSettings, NotificationSettings
from orchestrator.telemetry.ids import traceparent
from orchestrator.telemetry.metrics import Metrics

OUTBOX = "notifications.db"
"""In the state folder."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """Settings of notifications in the room's words."""

    endpoints: Sequence[Endpoint]
    bounds: Bounds
    tls: Mapping[str, ssl.SSLContext]
    signers: Mapping[str, WebhookSigner]


class NotificationDesk:
    """Implements `server.notifications.port.NotificationDesk`. Without endpoints nothing is opened or done."""

    def __init__(self, path: Path, near: Surroundings) -> None:
        self._path = path
        self._near = near
        self._given = NotificationSettings()
        self._signers: Mapping[str, WebhookSigner] = {}
        self._notifier: Notifier | None = None
        self._prepared: Notifier | None = None
        self._started = False

    async def open(self, given: NotificationSettings) -> None:
        """As configured. Nothing is sent yet.

        Raises:
            ConfigurationError: reason `notifications_unusable`, `notification_ca_unusable`, or a key's.
        """
        ready = self._ready(given)
        if ready.endpoints:
            self._notifier = await self._opened(ready)
        elif self._path.exists():
            await self._emptied(ready)
        self._given, self._signers = given, ready.signers

    def start(self, journal: KeptJournal, stack: AsyncExitStack) -> None:
        """Begin to tell. At the end what can be sent soon is sent; the rest waits on disk."""
        stack.callback(journal.subscribe(self._observe))
        self._started = True
        if self._notifier is not None:
            self._notifier.start()

    async def prepare(self, settings: Settings) -> Callable[[], None]:
        """Have everything ready for other endpoints; what is returned puts them in force, and cannot fail.

        Raises:
            ConfigurationError, TryAgainError: as `open`, and `notifications_unwritable`; nothing has changed.
        """
        given = settings.notifications
        if given == self._given:
            return _nothing
        ready = self._ready(given)
        if self._prepared is not None:  # for settings that were refused in the end
            prepared, self._prepared = self._prepared, None
            await prepared.stop(0)
        if self._notifier is not None:
            await self._notifier.prepare(ready.endpoints)
        elif ready.endpoints:
            self._prepared = await self._opened(ready)

        def put_in_force() -> None:
            if self._notifier is not None:
                self._notifier.change(ready.endpoints, ready.bounds, ready.tls)
            elif self._prepared is not None:
                self._notifier, self._prepared = self._prepared, None
                if self._started:
                    self._notifier.start()
            self._given, self._signers = given, ready.signers

        return put_in_force

    async def stop(self) -> None:
        for notifier in (self._prepared, self._notifier):
            if notifier is not None:
                await notifier.stop()

    def _observe(self, facts: Sequence[Fact]) -> None:
        if self._notifier is not None:
            self._notifier.observe(facts)

    async def _opened(self, ready: _Ready) -> Notifier:
        return await Notifier.open(self._path, ready.endpoints, ready.bounds, replace(self._near, tls=ready.tls))

    async def _emptied(self, ready: _Ready) -> None:
        """Whoever is told again one day is told of what happens from then on. Nobody is told now, so what is wrong with
        the file is told then."""
        with suppress(ConfigurationError):
            await (await self._opened(ready)).stop(0)

    def _ready(self, given: NotificationSettings) -> _Ready:
        """Raises ConfigurationError."""
        before = {one.name: one for one in self._given.endpoints}
        signers = {
            one.name: self._signers[one.name] if before.get(one.name) == one else WebhookSigner(one.key_files)
            for one in given.endpoints
        }
        return _Ready(
            [endpoint_of(one, signers[one.name]) for one in given.endpoints],
            Bounds(given.max_messages, given.max_bytes, given.max_age_seconds),
            {one.name: _tls(one.name, one.ca_file) for one in given.endpoints if one.ca_file},
            signers,
        )

    def watch(self, metrics: Metrics) -> None:
        """Add the metrics; docs/reference/metrics.md lists them."""

        def read(of: Callable[[EndpointState], float]) -> Callable[[], Mapping[str, float]]:
            return lambda: {one.endpoint.name: of(one) for one in self._states()}

        def count(of: Callable[[EndpointState], float]) -> Callable[[], Mapping[tuple[str, ...], float]]:
            return lambda: {(one.endpoint.name,): of(one) for one in self._states()}

        for name, documentation, of in GAUGES:
            metrics.watch_words(f"notification_{name}", documentation, "endpoint", read(of))
        for name, documentation, of in COUNTS:
            metrics.watch_counts(f"notification_{name}", documentation, ("endpoint",), count(of))
        lag = "Facts that were not looked at yet for notifications."
        metrics.watch("notification_lag_facts", lag, lambda: self._notifier.lag if self._notifier else 0)

    def listed(self) -> Sequence[Mapping[str, Any]]:
        """See `notification_shapes.EndpointView`."""
        return [self._view(one) for one in self._states()]

    def _states(self) -> Sequence[EndpointState]:
        return self._notifier.states() if self._notifier is not None else ()

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
        return endpoint_view(state, self._signers.get(state.endpoint.name))


def _nothing() -> None:
    """To put in force."""


async def open_notifications(
    settings: Settings, store: Store, url: str, clock: SystemClock, stack: AsyncExitStack
) -> NotificationDesk:
    """As configured. Nothing is sent yet.

    Raises:
        ConfigurationError: reason `notifications_unusable`, `notification_ca_unusable`, or a key's.
    """
    near = Surroundings(
        journal=store.journal,
        origin=Origin(url, traceparent),
        mask=store.masker.text,
        public=is_public,
        now_ns=clock.now_ns,
        schedule=Schedule(random.random),
    )
    desk = NotificationDesk(settings.state_dir / OUTBOX, near)
    push_closing(stack, "notifications", desk.stop)
    await desk.open(settings.notifications)
    return desk


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
