"""How GitHub is reached and as whom: what a configured source gives to the clients. No I/O of its own."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from orchestrator.errors import ConfigurationError
from orchestrator.intake.github.urls import GitHubUrl, Scope

USER_AGENT = "ephemeral-runner-orchestrator"
_LEAST: dict[Scope, Mapping[str, str]] = {
    Scope.ORGANIZATION: {
        "organization_self_hosted_runners": "write",
        "actions": "read",
        "contents": "read",
        "metadata": "read",
    },
    Scope.REPOSITORY: {"administration": "write", "actions": "read", "contents": "read", "metadata": "read"},
}


@dataclass(frozen=True, slots=True)
class AppCredential:
    """A GitHub App's installation.

    `sign` makes an App JWT (`identity.github_app`); it raises `TryAgainError` or `ConfigurationError`. `repositories`
    are names without owner, `repository_ids` their ids: installation tokens reach no other one; none means all.
    `permissions` narrow them further; empty stands for `least_permissions` of the scope.
    """

    installation_id: str
    sign: Callable[[], str] = field(repr=False)
    repositories: tuple[str, ...] = ()
    repository_ids: tuple[int, ...] = ()
    permissions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A personal access token. `read` gives its present value (`identity.secret_file`); raises as `sign` does."""

    read: Callable[[], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GitHubConnection:
    """One configured GitHub URL.

    `proxy` is an http:// URL, perhaps with credentials, used for every host not in `no_proxy` (names, or
    `.suffix`). `tls` replaces the system's certificates. `timeout_seconds` bounds each call but polls;
    `poll_seconds` is how long a poll may be silent: more than the service holds it (about 50 s).
    """

    url: GitHubUrl
    credential: AppCredential | TokenCredential
    proxy: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    user_agent: str = USER_AGENT
    timeout_seconds: float = 30.0
    poll_seconds: float = 80.0

    def __post_init__(self) -> None:
        if self.url.scope is Scope.ENTERPRISE and isinstance(self.credential, AppCredential):
            raise ConfigurationError(
                "GitHub lets no App manage an enterprise's runners",
                reason="github_app_unfit",
                fix="use a classic personal token with manage_runners:enterprise, or organisations instead",
            )


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance, so that tests can step them: Unix seconds, seconds that never run backwards, waiting, [0, 1)."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random


def least_permissions(scope: Scope) -> Mapping[str, str]:
    """What a source of this scope needs of its installation token, and no more."""
    return MappingProxyType(dict(_LEAST.get(scope, {})))
