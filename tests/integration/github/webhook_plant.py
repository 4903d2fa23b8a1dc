"""The plant with webhooks instead of scale sets: GitHub's events signed, sent and taken in as over the network."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from github_plant import DEADLINES, POOL, QUICK, SOURCE, Gate, Gated, Plant, options, soon

from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import GitHubConnection, TokenCredential
from orchestrator.intake.github.connection import Timing as ClientTiming
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.rest.runners import LabelRule
from orchestrator.intake.github.source_config import ScaleSetConfig, SourceConfig
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.job_table import Place
from orchestrator.intake.github.webhooks.receiver import Receipt, WebhookReceiver
from orchestrator.intake.github.webhooks.source import WebhookConfig, WebhookSource
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.recovery import recover
from orchestrator.testing.github.documents import job_document
from orchestrator.testing.github.model import Job
from orchestrator.testing.github.server import GitHubServer

MARK = "by-0123456789"
SECRET = b"correct horse battery staple"


def rule(*labels: str, **changes: Any) -> LabelRule:
    return LabelRule(ScaleSetConfig(name="-".join(labels), pool=POOL, labels=labels, script="exec runner", **changes))


class WebhookPlant(Plant):
    """`sends` says whether GitHub's events of a job reach us; `queued_seconds` is how often we ask by ourselves."""

    def __init__(self, github: GitHubServer, folder: Path, **more: Any) -> None:
        super().__init__(github, **more)
        self.folder = folder
        self.rules = (rule("zt"),)
        self.sends = {"queued", "in_progress", "completed"}
        self.queued_seconds = 3600.0
        self.places: tuple[Place, ...] = ()
        self.receipts: list[Receipt] = []
        self._deliveries = 0
        self._sending: set[asyncio.Task] = set()
        github.state.listeners.append(self._happened)

    def _happened(self, action: str, job: Job) -> None:
        if action in self.sends and self.lives:
            task = asyncio.ensure_future(self.deliver(action, job))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def payload(self, action: str, job: Job, **changes: Any) -> dict[str, Any]:
        return {
            "action": action,
            "workflow_job": job_document(job, self.github.url),
            "repository": {"full_name": job.run.repository.full_name},
        } | changes

    async def deliver(self, action: str, job: Job, **changes: Any) -> Receipt:
        """One delivery, as `server.sources.webhooks` hands it on."""
        return await self.deliver_payload(self.payload(action, job, **changes))

    async def deliver_payload(self, payload: dict[str, Any]) -> Receipt:
        self._deliveries += 1
        body = json.dumps(payload).encode()
        headers = {
            "X-Hub-Signature-256": f"sha256={hmac.new(SECRET, body, 'sha256').hexdigest()}",
            "X-GitHub-Delivery": f"delivery-{self._deliveries}",
            "X-GitHub-Event": "workflow_job",
        }
        self.receipts.append(await self.receiver.receive(headers, body))
        return self.receipts[-1]

    async def start(self, *, gate: Gate | None = None) -> None:
        self.lives += 1
        self.gate = gate or Gate()
        url = parse_github_url(self.github.config_url("acme"))
        credential = TokenCredential(lambda: self.github.personal_token)
        self.client = GitHub(GitHubConnection(url, credential, timeout_seconds=2.0), ClientTiming(sleep=soon))
        self.client.rest = Gated(self.client.rest, self.gate)
        self.inbox = WebhookInbox(self.folder / "inbox.sqlite", time.time_ns, max_waiting=1000)
        self.receiver = WebhookReceiver(url, [SECRET.decode], self.inbox, max_body_bytes=1 << 20)
        sets = tuple(one.runners for one in self.rules)
        self.source = WebhookSource(
            config=WebhookConfig(
                source=SourceConfig(name=SOURCE, issuer=url.text, owner="", scale_sets=sets, timing=self.timing),
                rules=self.rules,
                mark=MARK,
                places=self.places,
                ask_deliveries=False,
                queued_seconds=self.queued_seconds,
            ),
            github=self.client,
            facts=JobFacts(self.client.rest, url, url.oidc_issuer, time.monotonic),
            inbox=self.inbox,
            engine=lambda: Gated(self.engine, self.gate),
            free=self.free,
        )
        performer = self.performer()
        self.engine = Engine(
            journal=self.journal, performer=performer, pools=self.pools, clock=self.clock, deadlines=DEADLINES
        )
        self.backend.subscribe(self.engine.runner_changed)
        await recover(self.journal, self.engine, f"life-{self.lives}")
        await self.source.start()

    async def stop(self) -> None:
        await super().stop()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self.inbox.close()

    async def kill(self) -> None:
        self.gate.killed.set()
        self.backend.unwatch()
        await self.source.stop()
        await self.engine.close()
        await self.client.close()
        await self.inbox.close()


@asynccontextmanager
async def webhook_plant(folder: Path, *, start: bool = True, **more: Any) -> AsyncIterator[WebhookPlant]:
    async with GitHubServer(options()) as github:
        github.add_repository("acme/shop", branches={"main": True})
        plant = WebhookPlant(github, folder, timing=QUICK, **more)
        if start:
            await plant.start()
        try:
            yield plant
        finally:
            programs = list(plant._programs)
            for program in programs:
                program.cancel()
            await asyncio.gather(*programs, return_exceptions=True)
            if plant.lives:
                with suppress(Exception):
                    await plant.stop()
