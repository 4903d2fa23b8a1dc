"""Policy, and everything that it is asked with: what is known of artifacts, consent, source, ticket and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from orchestrator.daemon.adapters import Later
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.identity import Identity
from orchestrator.daemon.promotion.approvals import Approvals, open_approvals, watch_approvals
from orchestrator.daemon.promotion.room import Promotion, open_lookups, open_promotion
from orchestrator.daemon.promotion.tickets import open_release_facts
from orchestrator.daemon.records.audit import anchored
from orchestrator.daemon.records.decision_log import DecisionRoom, open_decisions, watch_decisions
from orchestrator.daemon.secrets.accounts import Accounts, open_accounts
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.daemon.secrets.slice import open_secrets
from orchestrator.daemon.storage import Store
from orchestrator.evidence.audit.facts import DAEMON
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Policy
from orchestrator.model.job import PoolName
from orchestrator.model.pool import Pool
from orchestrator.policy.bundle import BundleHolder, default_bundle
from orchestrator.policy.decide import PolicyDecider
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.settings import Settings
from orchestrator.telemetry.metrics import Metrics

PolicyEngine = BundleHolder | OpaServerEngine


@dataclass(frozen=True)
class Gate:
    """`policy` is what the engine and the exchange ask; `decider` answers questions without a job."""

    engine: PolicyEngine
    decider: PolicyDecider
    policy: Policy
    decisions: DecisionRoom
    promotion: Promotion
    approvals: Approvals
    static_secrets: SecretsRoom
    accounts: Accounts


async def open_gate(
    settings: Settings,
    url: str,
    pools: Mapping[PoolName, Pool],
    store: Store,
    identity: Identity,
    jobs: Later[Engine],
    clock: SystemClock,
    stack: AsyncExitStack,
) -> Gate:
    """
    Raises:
        OrchestratorError: rules, keys or what is kept are not fit.
    """
    promotion = await open_promotion(settings, url, pools, store.journal, store.logs, store.notes, clock)
    engine = await _policy_engine(settings, stack)
    await store.notes.policy_in_force(engine, DAEMON)
    decisions = await open_decisions(settings, engine, clock, stack)
    static_secrets = open_secrets(settings, store.notes, clock.now_ns)
    looked_up = promotion.artifact, engine, store.audit, clock.now_ns
    accounts = await open_accounts(settings, static_secrets, identity, *looked_up, stack)
    release = open_release_facts(settings, clock.now_ns, stack)
    approvals = await open_approvals(settings, promotion, store.notes, jobs, clock, stack)
    lookups = open_lookups(
        promotion,
        consent=approvals.consent,
        source=release.source,
        ticket=release.ticket,
        secrets=static_secrets.facts,
    )
    decider = PolicyDecider(engine, lookups, clock, listener=decisions.beside(promotion.summaries.answered))
    policy = anchored(approvals.guard(decider), store.audit, clock)
    return Gate(engine, decider, policy, decisions, promotion, approvals, static_secrets, accounts)


def watch_gate(metrics: Metrics, gate: Gate) -> None:
    """Have its figures read at each scrape."""
    metrics.watch_scores(lambda: gate.accounts.latest)
    watch_decisions(metrics, gate.decisions)
    watch_approvals(metrics, gate.approvals)


async def _policy_engine(settings: Settings, stack: AsyncExitStack) -> PolicyEngine:
    """The engine that answers, seen to answer: a bundle proves itself when loaded, a server is asked now."""
    if settings.policy.engine != "opa":
        bundle = BundleHolder(settings.policy.bundle or default_bundle())
        push_closing(stack, "policy", bundle.aclose)
        return bundle
    server = OpaServerEngine(settings.policy.opa_url, timeout_seconds=settings.policy.timeout_seconds)
    push_closing(stack, "policy", server.aclose)
    await server.check()
    return server
