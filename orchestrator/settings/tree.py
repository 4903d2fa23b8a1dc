"""The settings themselves. The docstring under a field is its reference: meaning, unit, reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.model.pool import TrustTier
from orchestrator.settings.approvals import ApprovalsSettings
from orchestrator.settings.audit import AuditSettings
from orchestrator.settings.commits import check_sources
from orchestrator.settings.deployment import DeploymentSettings
from orchestrator.settings.fields import Address, Bytes, EgressRuleSettings, Group, HostName, Name, Seconds
from orchestrator.settings.github import GitHubSettings
from orchestrator.settings.identity import IdentitySettings
from orchestrator.settings.kubernetes import KubernetesSettings, PodSettings
from orchestrator.settings.notifications import NotificationSettings
from orchestrator.settings.page import PageSettings, check_redirect
from orchestrator.settings.policy import PolicySettings
from orchestrator.settings.promotion import PromotionSettings
from orchestrator.settings.secrets import SecretSettings, check_secret_pools, unique_secrets
from orchestrator.settings.telemetry import TelemetrySettings
from orchestrator.state_dir import default_state_dir


class ServerSettings(Group):
    host: str = "127.0.0.1"
    """Address the HTTP API listens on. Loopback by default: the API speaks plain HTTP, so put TLS in front."""
    port: int = Field(default=8455, ge=0, le=65535)
    """TCP port; 0 takes a free one, the same at each start unless somebody else has it, and writes it to
    `daemon.json` in the state folder."""
    public_url: str = ""
    """URL under which others reach the API, without a trailing slash; also the issuer. Empty: host and port."""
    max_body_bytes: Bytes = 1 << 20
    """Largest request body in bytes; larger ones get 413."""
    max_queued_jobs: int = Field(default=20_000, ge=1, le=1_000_000)
    """Jobs that may be unfinished at once; beyond it dispatch answers 429 with Retry-After."""
    retry_after_seconds: int = Field(default=5, ge=1, le=3600)
    """What Retry-After says when the queue is full."""

    @field_validator("public_url")
    @classmethod
    def _no_trailing_slash(cls, value: str) -> str:
        if value and (not value.startswith(("http://", "https://")) or value.endswith("/")):
            raise ValueError("must start with http:// or https:// and have no trailing slash")
        return value


class CallerIssuer(Group):
    """An OIDC issuer whose tokens may dispatch jobs, and what its claims mean."""

    issuer: str
    """Exact `iss` of its tokens; also where its discovery document is fetched from."""
    audience: str
    """The one `aud` that its tokens must carry for us."""
    jwks_file: Path | None = None
    """Key set from a file instead of by discovery, for issuers this machine cannot reach."""
    algorithms: tuple[Literal["RS256", "ES256"], ...] = ("RS256", "ES256")
    """Signature algorithms accepted."""
    require: dict[str, str] = Field(min_length=1)
    """Claim to regular expression (matched in full). All must match; an empty table would trust everybody."""
    facts: dict[str, str] = Field(default_factory=dict)
    """Fact for policy to the claim it is read from, e.g. `repository: repository`."""
    max_age_seconds: Seconds = 3600
    """Oldest `iat` accepted, in seconds."""
    single_use: bool = True
    """A token may create jobs under one idempotency key only; a second key with it is a replay."""

    @field_validator("require")
    @classmethod
    def _compile(cls, value: dict[str, str]) -> dict[str, str]:
        for claim, pattern in value.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern for claim {claim!r} is not a regular expression: {error}") from None
        return value


class EgressSettings(Group):
    names: dict[HostName, Address] = Field(default_factory=dict)
    """Host name to the IP address it stands for, instead of DNS; the only way to allow a private address."""
    connect_timeout_seconds: Seconds = 10
    """Longest wait for a connection to a destination."""
    idle_timeout_seconds: Seconds = 300
    """A tunnel without traffic for this long is closed."""
    max_connections: int = Field(default=256, ge=1, le=65536)
    """Open connections of one job."""
    max_bytes_up: Bytes = 8 << 30
    """Bytes one job may send in all; beyond it its connections are closed."""
    max_bytes_down: Bytes = 32 << 30
    """Bytes one job may receive in all."""


class SandboxSettings(Group):
    toolchain: tuple[Path, ...] = ()
    """Folders of this machine that jobs see read-only under the same path, besides `/usr`. Nothing secret."""
    workspace_bytes: Bytes = 2 << 30
    """Size of the job's working folder, in memory."""
    tmp_bytes: Bytes = 512 << 20
    """Size of `/tmp`, in memory."""
    shm_bytes: Bytes = 64 << 20
    """Size of `/dev/shm`."""
    memory_bytes: Bytes = 4 << 30
    """Memory of the whole sandbox where control groups are at hand; else the address space of each process."""
    max_processes: int = Field(default=512, ge=4, le=65536)
    """Processes and threads at once."""
    max_open_files: int = Field(default=4096, ge=64, le=1 << 20)
    """Open files of each process."""
    cpu_cores: float = Field(default=0, ge=0, le=1024)
    """Processor time in cores where control groups are at hand; 0 sets no limit."""
    max_file_bytes: Bytes = 2 << 30
    """Largest single file."""
    host_uid_base: int = Field(default=200_000, ge=1000, le=2_000_000_000)
    """When the daemon runs as root: first of the unused host user ids, one for each runner at a time."""


class PoolSettings(Group):
    name: Name
    """Name that jobs ask for."""
    backend: Literal["sandbox", "kubernetes"] = "sandbox"
    """Where its runners live: local sandboxes, or pods of a cluster."""
    trust_tier: TrustTier = TrustTier.STANDARD
    """What its jobs may ever be granted; an input of policy."""
    capacity: int = Field(default=4, ge=1, le=100_000)
    """Runners at once."""
    egress: tuple[EgressRuleSettings, ...] = ()
    """The most its jobs may reach; policy can only narrow it."""
    require_egress_proof: bool = True
    """A runner gets no work until its agent has shown that forbidden egress fails."""
    max_job_seconds: int = Field(default=3600, ge=1, le=7 * 86400)
    """Longest run of a job; a job may ask for less."""
    sandbox: SandboxSettings = SandboxSettings()
    """Isolation and limits of a local sandbox."""
    kubernetes: PodSettings = PodSettings()
    """Image, isolation and limits of a pod."""


class DeadlineSettings(Group):
    admission_seconds: Seconds = 60
    """Queued until policy has answered; then the job ends with `admission_timeout`."""
    capacity_seconds: Seconds = 6 * 3600
    """Admitted until a runner is free; then `capacity_timeout`."""
    provision_seconds: Seconds = 120
    """Making the runner, all tries together; then `provision_timeout`."""
    bind_seconds: Seconds = 60
    """Runner made until its agent has claimed; then `bind_timeout`."""
    teardown_seconds: Seconds = 60
    """End recorded until verified gone; after it an alarm names what is left, and we keep trying."""
    call_seconds: Seconds = 30
    """Longest single call to a backend, a source, policy or an attester; then it is cut off and tried again."""
    naming_seconds: Annotated[float, Field(gt=0, le=1800)] = 600
    """A runner whose job its platform chooses: from its start until the platform has named a job; then `no_job`. At
    most 1800, because the backend's own hard stop lies one hour behind such a job's limit."""
    refusal_seconds: Annotated[float, Field(gt=0, le=600)] = 30
    """How long a job that policy refused when its platform named it may go on, without identity and with the platform's
    own hosts only, to show the reason in its log on the platform."""
    completion_seconds: Annotated[float, Field(gt=0, le=600)] = 120
    """How far the platform's word on its job's end and the end of the runner may lie apart; then the job ends with
    `completion_unseen`, or a runner that goes on is ended."""
    drain_seconds: Seconds = 60
    """On SIGTERM: how long running jobs may go on before they are ended."""
    sweep_seconds: Seconds = 30
    """Time between two looks at everything, which alone would be enough to converge."""


class JournalSettings(Group):
    retention_seconds: Seconds = 14 * 86400
    """Facts of a finished job are kept this long, then compacted to one line."""
    forget_seconds: Seconds = 30 * 86400
    """The compacted line and its idempotency key are kept this long."""


class LogSettings(Group):
    max_bytes_per_job: Bytes = 16 << 20
    """Output kept of one job; what comes after is read and dropped, and the log says so."""
    retention_seconds: Seconds = 14 * 86400
    """How long a finished job's log is kept."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe of the daemon's own log lines."""
    format: Literal["json", "console"] = "json"
    """`console` is for eyes."""


class Settings(BaseSettings):
    """All settings. Sources, strongest first: environment (`ORCHESTRATOR_SERVER__PORT`), file, defaults."""

    model_config = SettingsConfigDict(
        env_prefix="ORCHESTRATOR_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    state_dir: Path = Field(default_factory=default_state_dir)
    """Folder of everything the daemon keeps: journal, keys, logs. Created with mode 0700."""
    server: ServerSettings = ServerSettings()
    callers: tuple[CallerIssuer, ...] = ()
    """Issuers whose tokens may dispatch jobs, besides the daemon's own local one."""
    identity: IdentitySettings = IdentitySettings()
    policy: PolicySettings = PolicySettings()
    promotion: PromotionSettings = PromotionSettings()
    """What is asked about what is to be deployed, and whose word counts."""
    approvals: ApprovalsSettings = ApprovalsSettings()
    """What people sign: approvals, and exceptions to the rules."""
    pools: tuple[PoolSettings, ...] = (PoolSettings(name="default"),)
    """The classes of runners."""
    github: tuple[GitHubSettings, ...] = ()
    """Organisations, repositories and enterprises on GitHub whose jobs are run."""
    secrets: tuple[SecretSettings, ...] = Field(default=(), max_length=200)
    """Static secrets that jobs still need, until they can do without."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    """The cluster, for pools whose backend is `kubernetes`."""
    deployment: DeploymentSettings = DeploymentSettings()
    """The gate of a cluster in which deployments start."""
    page: PageSettings = PageSettings()
    """The live page."""
    notifications: NotificationSettings = NotificationSettings()
    egress: EgressSettings = EgressSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    journal: JournalSettings = JournalSettings()
    audit: AuditSettings = AuditSettings()
    logs: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @field_validator("pools")
    @classmethod
    def _unique_names(cls, pools: tuple[PoolSettings, ...]) -> tuple[PoolSettings, ...]:
        names = [pool.name for pool in pools]
        if not names:
            raise ValueError("needs at least one pool")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"pool names must differ; given twice: {', '.join(twice)}")
        return pools

    _secrets_differ = field_validator("secrets")(unique_secrets)

    @field_validator("github")
    @classmethod
    def _sources_differ(cls, sources: tuple[GitHubSettings, ...]) -> tuple[GitHubSettings, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names of sources must differ; given twice: {', '.join(twice)}")
        return sources

    @model_validator(mode="after")
    def _guards_no_namespace_of_its_own(self) -> Settings:
        own = {pool.kubernetes.namespace or f"runners-{pool.name}": f"pool {pool.name}'s" for pool in self.pools}
        own |= {self.kubernetes.gateway.namespace: "the gateway's", self.kubernetes.namespace: "the daemon's"}
        for name in self.deployment.namespaces:
            if name in own:
                raise ValueError(
                    f"deployment.namespaces holds {name}, which is {own[name]} own namespace: "
                    "its pods must be able to start while the daemon is away"
                )
        return self

    @model_validator(mode="after")
    def _demands_name_a_pool(self) -> Settings:
        pools = {pool.name for pool in self.pools}
        for number, source in enumerate(self.github):
            for path, demand in source.demands():
                if demand.pool not in pools:
                    raise ValueError(
                        f"github.{number}.{path}.pool names {demand.pool!r}, which is no pool; "
                        f"pools: {', '.join(sorted(pools))}"
                    )
        return self

    @model_validator(mode="after")
    def _promotion_names_pools(self) -> Settings:
        pools = [pool.name for pool in self.pools]
        self.promotion.check_pools(pools)
        check_secret_pools(self.secrets, pools)
        self.notifications.check_pools(pools)
        return self

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Settings:
        check_redirect(self.page, self.server.public_url)
        check_sources(self.promotion.commits, self.github)
        return self
