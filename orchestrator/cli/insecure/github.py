"""Settings of GitHub that are allowed and weaken a promise, or with which no job could run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.daemon.github import slice as github_slice
from orchestrator.errors import ConfigurationError
from orchestrator.identity.secret_file import SecretFile
from orchestrator.intake.github.hosts import uncovered
from orchestrator.intake.github.urls import Flavour, GitHubUrl, Scope, parse_github_url
from orchestrator.model.egress import EgressRule
from orchestrator.settings import GitHubSettings, Settings

_SHOWN: Final = 3
_OTHERS_AUDIENCES: Final = frozenset({"sts.amazonaws.com", "api://azureadtokenexchange", "vault", "sigstore"})
_ANYBODYS: Final = frozenset(
    {"*.blob.core.windows.net", "*.amazonaws.com", "*.s3.amazonaws.com", "*.storage.googleapis.com", "*.github.io"}
)


def github_warnings(settings: Settings) -> Iterator[str]:
    """One line for each, beginning with the setting's path."""
    for number, given in enumerate(settings.github):
        path = f"github.{number}"
        try:
            url = parse_github_url(given.url)
        except ConfigurationError as error:
            yield f"{path}.url: {error}"
            continue
        yield from _credentials(path, given, url)
        yield from _audience(path, given, settings)
        yield from _hosts(path, given, url)
        yield from _pools(path, given, url, settings)
        yield from _shared_app(path, given, settings)


def _credentials(path: str, given: GitHubSettings, url: GitHubUrl) -> Iterator[str]:
    files = {}
    if given.token_file is not None:
        yield (
            f"{path}.token_file: a personal token has its owner's rights, lives long and ends with that person's "
            "account; use a GitHub App where one can be had"
        )
        files["token_file"] = given.token_file
    if given.app is not None:
        files["app.private_key_file"] = given.app.private_key_file
    for number, file in enumerate(given.webhooks.secret_files if given.webhooks else ()):
        files[f"webhooks.secret_files.{number}"] = file
    for name, file in files.items():
        if exposed := SecretFile(file, name).exposed_to():
            yield f"{path}.{name}: {file} can be read by {exposed} (chmod 400)"
    if url.scope is Scope.REPOSITORY:
        yield (
            f"{path}.url: runners of a repository need Administration: write on it, which can change its protection; "
            "an organisation's url needs Self-hosted runners: write only"
        )


def _shared_app(path: str, given: GitHubSettings, settings: Settings) -> Iterator[str]:
    for name, jobs_app in settings.identity.github_apps.items():
        if given.app is not None and jobs_app.client_id == given.app.client_id:
            yield (
                f"identity.github_apps.{name}.client_id: {jobs_app.client_id!r} is the App of {path} as well, which "
                "manages runners, so a grant can give jobs that right; make jobs an App of their own"
            )


def _audience(path: str, given: GitHubSettings, settings: Settings) -> Iterator[str]:
    audience = given.oidc.audience
    if not audience and not settings.server.public_url:
        yield (
            f"{path}.oidc.audience: neither it nor server.public_url is set, so the address on this machine is the "
            "audience; jobs' tokens for another installation with the same address would count here"
        )
    if audience.lower() in _OTHERS_AUDIENCES or audience.startswith("https://github.com/"):
        yield f"{path}.oidc.audience: jobs' tokens for {audience} would name a job here too; use one of your own"


def _hosts(path: str, given: GitHubSettings, url: GitHubUrl) -> Iterator[str]:
    if not given.hosts and url.flavour is Flavour.GHE_COM:
        yield f"{path}.hosts: without the result storage of your region logs, artifacts and caches cannot be stored"
    for number, rule in enumerate(given.hosts):
        if rule.host in _ANYBODYS:
            yield f"{path}.hosts.{number}: {rule.host} has hosts of anybody; every job could send them what it knows"


def _pools(path: str, given: GitHubSettings, url: GitHubUrl, settings: Settings) -> Iterator[str]:
    """A runner reaches what the source and its pool both allow."""
    wanted = github_slice.egress(given, url)
    if not wanted:
        yield f"{path}.hosts: nothing is named that a runner could reach GitHub at, so it will never get its job"
    pools = {pool.name: pool for pool in settings.pools}
    for place, demand in given.demands():
        allowed = [EgressRule(rule.host, rule.port, rule.protocol) for rule in pools[demand.pool].egress]
        if lacking := uncovered(wanted, allowed):
            some = ", ".join(str(rule) for rule in lacking[:_SHOWN])
            more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            yield f"{path}.{place}.pool: the egress of pool {demand.pool} lacks {some}{more}, which the runner needs"
