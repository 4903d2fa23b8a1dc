"""Every setting of the daemon, one frozen tree. Only `daemon` and `cli` read it; a room gets its own slice."""

from orchestrator.settings.audit import AuditAnchorSettings, AuditSettings
from orchestrator.settings.deployment import DeploymentSettings, DeploymentWebhookSettings
from orchestrator.settings.github import (
    GitHubAppSettings,
    GitHubOidcSettings,
    GitHubSettings,
    GitHubWebhookSettings,
    RunnerDemandSettings,
    ScaleSetSettings,
    WebhookRunnerSettings,
)
from orchestrator.settings.identity import IdentitySettings
from orchestrator.settings.load import load_settings
from orchestrator.settings.policy import DecisionLogSettings, DenyWatchSettings, PolicySettings
from orchestrator.settings.telemetry import TelemetrySettings
from orchestrator.settings.tree import (
    CallerIssuer,
    DeadlineSettings,
    EgressSettings,
    JournalSettings,
    LogSettings,
    PoolSettings,
    SandboxSettings,
    ServerSettings,
    Settings,
)

__all__ = [
    "AuditAnchorSettings",
    "AuditSettings",
    "CallerIssuer",
    "DeadlineSettings",
    "DecisionLogSettings",
    "DenyWatchSettings",
    "DeploymentSettings",
    "DeploymentWebhookSettings",
    "EgressSettings",
    "GitHubAppSettings",
    "GitHubOidcSettings",
    "GitHubSettings",
    "GitHubWebhookSettings",
    "IdentitySettings",
    "JournalSettings",
    "LogSettings",
    "PolicySettings",
    "PoolSettings",
    "RunnerDemandSettings",
    "SandboxSettings",
    "ScaleSetSettings",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "WebhookRunnerSettings",
    "load_settings",
]
