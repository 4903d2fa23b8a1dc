"""Each room's slice of the settings, in the room's own words. Pure."""

from __future__ import annotations

from pathlib import Path

from orchestrator.backends.sandbox.config import SandboxConfig, SandboxPool
from orchestrator.egress.config import GatewayConfig
from orchestrator.identity.issuer import AudienceConfig, IssuerConfig
from orchestrator.identity.issuers import MAIN, issuer_url
from orchestrator.identity.jwks import INTROSPECTION_PATH
from orchestrator.identity.rotation import RotationSchedule
from orchestrator.identity.verify import CallerIssuerConfig
from orchestrator.lifecycle.observation import SECOND, Deadlines
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import PoolName
from orchestrator.model.pool import Pool
from orchestrator.settings import PoolSettings, SandboxSettings, Settings
from orchestrator.settings.identity import IssuerSettings

SANDBOX: str = "sandbox"

GITHUB_AUDIENCE = "github:"
"""Begins the audience of an App's installation tokens; its name follows."""

RESTRICTED = "restricted"
"""Isolation of a pod whose pool names no RuntimeClass: every pod of ours has the restricted profile."""


def pools(settings: Settings) -> dict[PoolName, Pool]:
    return {PoolName(pool.name): _pool(pool) for pool in settings.pools}


def _pool(pool: PoolSettings) -> Pool:
    base, isolation = _made_of(pool)
    return Pool(
        name=PoolName(pool.name),
        backend=pool.backend,
        trust_tier=pool.trust_tier,
        capacity=pool.capacity,
        base=base,
        isolation=isolation,
        egress=tuple(EgressRule(rule.host, rule.port, rule.protocol) for rule in pool.egress),
        require_egress_proof=pool.require_egress_proof,
        max_job_seconds=pool.max_job_seconds,
    )


def _made_of(pool: PoolSettings) -> tuple[str, str]:
    """What the pool's runners are made of and what isolates them, as policy and provenance name it."""
    if pool.backend == SANDBOX:
        return "host-toolchain", "bubblewrap"
    return pool.kubernetes.image, pool.kubernetes.runtime_class or RESTRICTED


def deadlines(settings: Settings) -> Deadlines:
    given = settings.deadlines
    return Deadlines(
        admission_ns=int(given.admission_seconds * SECOND),
        capacity_ns=int(given.capacity_seconds * SECOND),
        provision_ns=int(given.provision_seconds * SECOND),
        bind_ns=int(given.bind_seconds * SECOND),
        teardown_ns=int(given.teardown_seconds * SECOND),
        call_ns=int(given.call_seconds * SECOND),
        naming_ns=int(given.naming_seconds * SECOND),
        refusal_ns=int(given.refusal_seconds * SECOND),
        completion_ns=int(given.completion_seconds * SECOND),
    )


def _sandboxed(settings: Settings) -> dict[str, SandboxSettings]:
    return {pool.name: pool.sandbox for pool in settings.pools if pool.backend == SANDBOX}


def sandbox_pools(settings: Settings) -> dict[str, SandboxPool]:
    return {name: _sandbox_pool(pool) for name, pool in _sandboxed(settings).items()}


def sandbox(settings: Settings, instance: str) -> SandboxConfig:
    given = _sandboxed(settings)
    return SandboxConfig(
        pools=sandbox_pools(settings),
        instance=instance,
        private=(settings.state_dir,),
        host_uid_base=min(pool.host_uid_base for pool in given.values()),
    )


def _sandbox_pool(given: SandboxSettings) -> SandboxPool:
    return SandboxPool(
        toolchain=given.toolchain,
        workspace_bytes=given.workspace_bytes,
        tmp_bytes=given.tmp_bytes,
        shm_bytes=given.shm_bytes,
        memory_bytes=given.memory_bytes,
        max_processes=given.max_processes,
        max_open_files=given.max_open_files,
        cpu_cores=given.cpu_cores,
        max_file_bytes=given.max_file_bytes,
    )


def gateway(settings: Settings, *, root: bool) -> GatewayConfig:
    """As root the gateway changes to the user id just below the sandboxes' range."""
    given = settings.egress
    base = min(pool.host_uid_base for pool in _sandboxed(settings).values())
    return GatewayConfig(
        names=dict(given.names),
        connect_timeout_seconds=given.connect_timeout_seconds,
        idle_timeout_seconds=given.idle_timeout_seconds,
        max_connections=given.max_connections,
        max_bytes_up=given.max_bytes_up,
        max_bytes_down=given.max_bytes_down,
        uid=base - 1 if root else None,
    )


def issuer(settings: Settings, url: str, name: str = MAIN) -> IssuerConfig:
    """The issuer of the daemon's own URL, or the one of this name."""
    given, own = settings.identity, _own(settings, name)
    return IssuerConfig(
        issuer_url(url, name),
        {
            audience: AudienceConfig(one.algorithm, one.max_ttl_seconds)
            for audience, one in given.audiences.items()
            if not own.audiences or audience in own.audiences
        },
        own.token_ttl_seconds or given.token_ttl_seconds,
        given.caller_token_ttl_seconds,
        url + INTROSPECTION_PATH,
        own=name != MAIN,
    )


def rotation(settings: Settings, name: str = MAIN) -> RotationSchedule:
    given = settings.identity
    seconds = _own(settings, name).rotation_seconds or given.rotation_seconds
    return RotationSchedule(seconds, given.publish_ahead_seconds, given.retire_seconds)


def brokered(settings: Settings) -> frozenset[str]:
    """The audiences that third parties answer for."""
    return frozenset(f"{GITHUB_AUDIENCE}{name}" for name in settings.identity.github_apps)


def issued(settings: Settings) -> dict[str, frozenset[str]]:
    """Each issuer's name to the audiences that it issues for."""
    names = (MAIN, *settings.identity.issuers)
    return {name: frozenset(issuer(settings, "https://any.example", name).audiences) for name in names}


def _own(settings: Settings, name: str) -> IssuerSettings:
    return settings.identity.issuers[name] if name else IssuerSettings()


def callers(settings: Settings) -> tuple[CallerIssuerConfig, ...]:
    return tuple(
        CallerIssuerConfig(
            issuer=one.issuer,
            audience=one.audience,
            require=dict(one.require),
            facts=dict(one.facts),
            algorithms=one.algorithms,
            jwks_file=Path(one.jwks_file) if one.jwks_file else None,
            max_age_seconds=one.max_age_seconds,
            single_use=one.single_use,
        )
        for one in settings.callers
    )


def public_url(settings: Settings, host: str, port: int) -> str:
    """The issuer URL: as configured, else the address in use."""
    if settings.server.public_url:
        return settings.server.public_url
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"
