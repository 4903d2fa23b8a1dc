"""A configured GitHub source's slice of the settings, in the source's own words. Pure, but for files that are named."""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.identity.github_app import GitHubApp
from orchestrator.identity.github_oidc import GitHubOidcConfig
from orchestrator.identity.secret_file import SecretFile
from orchestrator.intake.github.connection import AppCredential, GitHubConnection, TokenCredential, least_permissions
from orchestrator.intake.github.hosts import platform_egress
from orchestrator.intake.github.source_config import ScaleSetConfig, SourceConfig
from orchestrator.intake.github.urls import GitHubUrl, Scope, parse_github_url
from orchestrator.model.egress import EgressRule
from orchestrator.model.job import PoolName
from orchestrator.settings.github import GitHubSettings, RunnerDemandSettings, ScaleSetSettings
from orchestrator.settings.identity import GitHubJobAppSettings

_MAX_OWNER = 100
_JOB_APP_SECONDS = 8.0
"""Longest call for a job's token: the job waits for it."""


def connection(given: GitHubSettings) -> GitHubConnection:
    """How this source reaches GitHub, and as whom.

    Raises:
        ConfigurationError: the URL, the CA file or the kind of credential is not fit.
    """
    return GitHubConnection(
        url=parse_github_url(given.url), credential=_credential(given), proxy=given.proxy, tls=trust(given)
    )


def _credential(given: GitHubSettings) -> AppCredential | TokenCredential:
    if given.app is not None:
        app = GitHubApp(given.app.client_id, given.app.private_key_file)
        return AppCredential(
            str(given.app.installation_id), app.sign, given.app.repositories, permissions=_permissions(given)
        )
    assert given.token_file is not None, "the settings give one or the other"
    return TokenCredential(SecretFile(given.token_file, "the GitHub token").read)


def _permissions(given: GitHubSettings) -> Mapping[str, str]:
    """The least that the source needs. Asking for deliveries of an App's own webhook needs none of the installation."""
    scope = parse_github_url(given.url).scope
    hook = given.webhooks is not None and given.webhooks.hook_id
    owner = "repository" if scope is Scope.REPOSITORY else "organization"
    return {**least_permissions(scope), **({f"{owner}_hooks": "write"} if hook else {})}


def job_app(name: str, given: GitHubJobAppSettings) -> GitHubConnection:
    """How the App that makes tokens for jobs is reached.

    Raises:
        ConfigurationError: the URL or the CA file is not fit.
    """
    url = parse_github_url(given.url)
    app = GitHubApp(given.client_id, given.private_key_file)
    credential = AppCredential(str(given.installation_id), app.sign)
    tls = _tls(given.ca_file, f"identity.github_apps.{name}")
    return GitHubConnection(url, credential, given.proxy, tls=tls, timeout_seconds=_JOB_APP_SECONDS)


def trust(given: GitHubSettings) -> ssl.SSLContext | None:
    """As `_tls`, for a source."""
    return _tls(given.ca_file, f"github {given.name}")


def _tls(ca_file: Path | None, whose: str) -> ssl.SSLContext | None:
    """The system's certificates and those of `ca_file`; None where nothing is added.

    Raises:
        ConfigurationError: reason `github_ca_unusable`.
    """
    if ca_file is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{whose}: the CA file {ca_file} cannot be used: {error.strerror or error}",
            reason="github_ca_unusable",
            fix="name a PEM file with the certificates of the server's CA",
        ) from error
    return context


def issuer(given: GitHubSettings, url: GitHubUrl) -> str:
    """The issuer of GitHub's job tokens."""
    return given.oidc.issuer or url.oidc_issuer


def oidc(given: GitHubSettings, url: GitHubUrl, public_url: str) -> GitHubOidcConfig:
    """Whose job tokens this source believes."""
    enterprise = url.scope is Scope.ENTERPRISE
    return GitHubOidcConfig(
        issuer=issuer(given, url),
        audience=given.oidc.audience or public_url,
        owner="" if enterprise else url.owner,
        repository=url.repository,
        enterprise=url.owner if enterprise else "",
        jwks_file=given.oidc.jwks_file,
        ssl_context=trust(given),
        proxy=given.proxy,
    )


def egress(given: GitHubSettings, url: GitHubUrl) -> tuple[EgressRule, ...]:
    """What a runner reaches before its job is known."""
    if given.hosts:
        return tuple(EgressRule(rule.host, rule.port, rule.protocol) for rule in given.hosts)
    return platform_egress(url)


def source(given: GitHubSettings, url: GitHubUrl) -> SourceConfig:
    """The source and its scale sets. Its own names are those of the settings."""
    return SourceConfig(
        name=given.name,
        issuer=given.url,
        owner=f"orchestrator {socket.gethostname()}"[:_MAX_OWNER],
        scale_sets=tuple(map(_scale_set, given.scale_sets)),
        platform_egress=egress(given, url),
    )


def _scale_set(given: ScaleSetSettings) -> ScaleSetConfig:
    return ScaleSetConfig(
        name=given.name,
        pool=PoolName(given.pool),
        group=given.group,
        labels=given.labels,
        max_runners=given.max_runners,
        script=script(given),
        work_folder=given.work_folder,
    )


def script(given: RunnerDemandSettings) -> str:
    """What the agent starts: the program that hands the registration to GitHub's runner and becomes it."""
    return f"exec orchestrator-github-runner {shlex.join(given.runner_command)}\n"
