"""The scorecard: counts, and what is in force at this moment, as one document. `server.accounts.desks.Books`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.daemon.records.audit import Audit
from orchestrator.daemon.secrets.inventory import Sources, inventory
from orchestrator.daemon.secrets.scores import ScoreKeeper, rule_modes
from orchestrator.identity.trust.inventory import inventory as grants_of
from orchestrator.identity.trust.inventory import latest_seconds
from orchestrator.policy.bundle import BundleHolder
from orchestrator.policy.files import Bundle
from orchestrator.policy.input import rfc3339
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.telemetry.scores import follow, metrics
from orchestrator.telemetry.scores.checklist import Standing, checklist
from orchestrator.telemetry.scores.collector import Measured
from orchestrator.telemetry.scores.metrics import Edge, SecretAge


@dataclass(frozen=True)
class Books:
    """What is counted and found, for the API and for metrics."""

    found: Sources
    keeper: ScoreKeeper
    engine: BundleHolder | OpaServerEngine
    audit: Audit | None

    async def inventory(self) -> Mapping[str, Any]:
        return await inventory(self.found)

    async def scorecard(self) -> Mapping[str, Any]:
        await self.keeper.upkeep()
        ages = await asyncio.to_thread(self.found.secrets.ages)
        measured = self._measured(ages)
        return {
            "at": rfc3339(self.found.now_ns()),
            "counted_since": rfc3339(self.keeper.tally.since_ns),
            "window_days": metrics.WINDOW_DAYS,
            **measured,
            "checklist": checklist(self._standing(ages, measured)),
        }

    async def measure(self) -> Measured:
        """The four metrics as they are now."""
        return self._measured(await asyncio.to_thread(self.found.secrets.ages))

    def _measured(self, ages: Sequence[SecretAge]) -> dict[str, dict[str, Any]]:
        now, tally = self.found.now_ns(), self.keeper.tally
        pools = [pool.name for pool in self.found.settings.pools]
        return {
            "secret_age": metrics.secret_age(ages),
            "permission_scope": metrics.permission_scope(list(self._edges()), tally, now),
            "artifact_traceability": metrics.artifact_traceability(tally, now),
            "policy_coverage": metrics.policy_coverage(tally, self._modes(), pools, now),
        }

    def _edges(self) -> Iterator[Edge]:
        trust = self.found.trust.current()
        for row in grants_of(trust).rows if trust else ():
            for identity in row.identities:
                for role in row.roles or ("",):
                    yield Edge(identity, row.rule, role)

    def _modes(self) -> Mapping[str, str] | None:
        bundle = self._bundle()
        return rule_modes(bundle) if bundle else None

    def _bundle(self) -> Bundle | None:
        """None where an engine of somebody else's has it."""
        return self.engine.bundle if isinstance(self.engine, BundleHolder) else None

    def _standing(self, ages: Sequence[SecretAge], measured: Mapping[str, Mapping[str, Any]]) -> Standing:
        settings, tally = self.found.settings, self.keeper.tally
        start = metrics.window_start_ns(self.found.now_ns())
        jobs = sum(count for _, count in tally.keys(follow.JOBS, start))
        trust = self.found.trust.current()
        documents = trust.documents if trust else ()
        grants = [grant for document in documents for grant in document.grants]
        limits = [one.max_ttl_seconds for one in settings.identity.audiences.values()]
        bundle = self._bundle()
        return Standing(
            secretless_share=metrics.share(tally.total(follow.SECRETLESS, start), jobs),
            secrets=len(ages),
            secrets_overdue=sum(one.overdue for one in ages),
            secrets_failing=sum(one.failing for one in ages),
            secrets_by_hand=sum(not one.rotated for one in ages),
            longest_token_seconds=max([int(settings.identity.token_ttl_seconds), *limits]),
            longest_session_seconds=max((latest_seconds(grant) for grant in grants), default=0),
            environments=[one.environment for one in documents],
            issuers=sorted({one.issuer for one in documents}),
            bundle_digest=bundle.digest if bundle else "",
            bundle_tests=len(bundle.tests) if bundle else None,
            deploys_traced_share=measured["artifact_traceability"]["deploys_traced_share"],
            pools=len(settings.pools),
            pools_proving_egress=sum(pool.require_egress_proof for pool in settings.pools),
            audit_enabled=self.audit is not None,
            audit_healthy=self.audit is not None and self.audit.log.healthy,
            anchors=len(settings.audit.anchors),
        )
