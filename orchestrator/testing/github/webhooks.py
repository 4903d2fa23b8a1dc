"""Webhooks: deliveries of `workflow_job` with real signatures, in order, twice, in disorder, or not at all.

GitHub never repeats a delivery by itself; whoever missed one asks for it again, with the same GUID.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from orchestrator.testing.github.documents import (
    job_document,
    owner_document,
    repository_document,
    status_of,
)
from orchestrator.testing.github.model import Flavour, Job
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import App

DAY = 86_400
_USER_AGENT = "GitHub-Hookshot/0000000"


@dataclass(slots=True, eq=False)
class Hook:
    """`scope` is an organization, `owner/repository`, or `app`."""

    id: int
    url: str
    secret: str
    scope: str
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """As `X-GitHub-Hook-Installation-Target-Type` says it."""
        return "integration" if self.scope == "app" else "repository" if "/" in self.scope else "organization"

    def hears(self, job: Job) -> bool:
        repository = job.run.repository
        return self.scope.lower() in ("app", repository.full_name.lower(), repository.owner.login.lower())


@dataclass(slots=True, eq=False)
class Delivery:
    """One attempt. `status` is `OK`, or what went wrong; empty while it is on its way."""

    id: int
    guid: str
    hook: Hook
    event: str
    action: str
    body: bytes
    created_at: float
    redelivery: bool = False
    status: str = ""
    status_code: int = 0
    duration: float = 0


class Webhooks:
    """Sends one delivery after the other. The counts are faults of the coming ones and are used up.

    `drop` fails to connect, which the list of deliveries shows; `lose` leaves no trace at all; `duplicate` is sent
    twice; `forge` carries a wrong signature; `reverse` of them are collected and sent the last one first.
    """

    def __init__(self, state: GitHubState, app: App) -> None:
        self._state = state
        self._app = app
        self.url = ""
        self.hooks: dict[int, Hook] = {}
        self.drop = self.lose = self.duplicate = self.forge = self.reverse = 0
        self._queue: deque[Delivery] = deque()
        self._held: list[Delivery] = []
        self._more = asyncio.Event()
        self._busy = False
        self._sender: asyncio.Task[None] | None = None
        state.listeners.append(self._job_changed)

    def add(self, url: str, secret: str, scope: str = "app") -> Hook:
        """A new hook; it is sent a `ping`."""
        hook = Hook(next(self._state.ids), url, secret, scope)
        self.hooks[hook.id] = hook
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        self._emit(hook, "ping", "", {"zen": "Keep it logically awesome.", "hook_id": hook.id})
        return hook

    def redeliver(self, delivery: Delivery) -> None:
        """Send it once more, under the same GUID."""
        again = Delivery(
            next(self._state.ids),
            delivery.guid,
            delivery.hook,
            delivery.event,
            delivery.action,
            delivery.body,
            self._state.clock.now(),
            redelivery=True,
        )
        delivery.hook.deliveries.append(again)
        self._push(again)

    def kept(self, hook: Hook) -> list[Delivery]:
        """Those that may still be listed and sent again, newest first: of three days, on GHES of seven."""
        days = 7 if self._state.options.flavour is Flavour.GHES else 3
        since = self._state.clock.now() - days * DAY
        return [one for one in reversed(hook.deliveries) if one.created_at >= since]

    async def drained(self, seconds: float = 30) -> None:
        """Wait until nothing is on its way any more."""
        await self._state.until(lambda: not self._queue and not self._busy, seconds)

    async def close(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
            self._sender = None

    def _job_changed(self, action: str, job: Job) -> None:
        for hook in self.hooks.values():
            if hook.hears(job):
                self._emit(hook, "workflow_job", action, self._payload(hook, action, job))

    def _payload(self, hook: Hook, action: str, job: Job) -> dict[str, Any]:
        repository = job.run.repository
        payload = {
            "action": action,
            "workflow_job": job_document(job, self.url) | {"status": status_of(job)},
            "repository": repository_document(repository, self.url),
            "sender": {"login": job.run.actor, "id": job.run.actor_id, "type": "User"},
        }
        if repository.owner.kind == "Organization":
            payload["organization"] = owner_document(repository.owner)
        if hook.kind == "integration":
            payload["installation"] = {"id": self._app.installation_id}
        if job.plan.environment:
            payload["deployment"] = {"environment": job.plan.environment, "sha": job.run.sha, "ref": job.run.ref}
        return payload

    def _emit(self, hook: Hook, event: str, action: str, payload: dict[str, Any]) -> None:
        if event != "ping" and self.lose > 0:
            self.lose -= 1
            return
        body, now = msgspec.json.encode(payload), self._state.clock.now()
        delivery = Delivery(next(self._state.ids), str(uuid.uuid4()), hook, event, action, body, now)
        hook.deliveries.append(delivery)
        if event != "ping" and self.reverse > 0:
            self._held.append(delivery)
            self.reverse -= 1
            if self.reverse == 0:
                held, self._held = self._held, []
                for one in reversed(held):
                    self._push(one)
            return
        self._push(delivery)

    def _push(self, delivery: Delivery) -> None:
        copies = 1
        if delivery.event != "ping" and self.duplicate > 0:
            self.duplicate -= 1
            copies = 2
        self._queue.extend([delivery] * copies)
        self._more.set()

    async def _send_all(self) -> None:
        limit = 30 if self._state.options.flavour is Flavour.GHES else 10
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=limit)) as http:
            while True:
                await self._more.wait()
                self._more.clear()
                while self._queue:
                    self._busy = True
                    try:
                        await self._send(http, self._queue.popleft())
                    finally:
                        self._busy = False
                        self._state.notify()

    async def _send(self, http: aiohttp.ClientSession, delivery: Delivery) -> None:
        if delivery.event != "ping" and self.drop > 0:
            self.drop -= 1
            delivery.status = "failed to connect to host"
            return
        began = time.monotonic()
        try:
            async with http.post(delivery.hook.url, data=delivery.body, headers=self._headers(delivery)) as answer:
                await answer.read()
                delivery.status_code = answer.status
                delivery.status = "OK" if answer.ok else f"Invalid HTTP Response: {answer.status}"
        except TimeoutError:
            delivery.status = "timed out"
        except aiohttp.ClientError:
            delivery.status = "failed to connect to host"
        delivery.duration = round(time.monotonic() - began, 3)

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        signature = sign(delivery.hook.secret, delivery.body)
        if delivery.event != "ping" and self.forge > 0:
            self.forge -= 1
            signature = sign(delivery.hook.secret + "?", delivery.body)
        hook = delivery.hook
        return {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": _USER_AGENT,
            "X-GitHub-Delivery": delivery.guid,
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Hook-ID": str(hook.id),
            "X-GitHub-Hook-Installation-Target-ID": str(self._app.app_id),
            "X-GitHub-Hook-Installation-Target-Type": hook.kind,
            "X-Hub-Signature-256": signature,
        }


def sign(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
