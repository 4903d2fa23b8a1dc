"""Every setting of the daemon, one frozen tree. Only `daemon` and `cli` read it; a room gets its own slice."""

from orchestrator.settings.load import load_settings
from orchestrator.settings.tree import (
    CallerIssuer,
    DeadlineSettings,
    EgressSettings,
    IdentitySettings,
    JournalSettings,
    LogSettings,
    PolicySettings,
    PoolSettings,
    SandboxSettings,
    ServerSettings,
    Settings,
    TelemetrySettings,
)

__all__ = [
    "CallerIssuer",
    "DeadlineSettings",
    "EgressSettings",
    "IdentitySettings",
    "JournalSettings",
    "LogSettings",
    "PolicySettings",
    "PoolSettings",
    "SandboxSettings",
    "ServerSettings",
    "Settings",
    "TelemetrySettings",
    "load_settings",
]
