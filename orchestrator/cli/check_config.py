"""`orchestrator check-config`: would the daemon start with these settings, and what are they?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from orchestrator.settings import Settings

EXAMPLES = ("orchestrator check-config --config orchestrator.yaml", "orchestrator check-config --strict --json")


def check_config(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", envvar="ORCHESTRATOR_CONFIG", help="Settings in YAML.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print settings and warnings as JSON.")] = False,
) -> None:
    """Check settings, print the effective ones (file, environment and defaults together), warn of insecure choices."""
    from orchestrator.cli.exits import ExitCode
    from orchestrator.cli.insecure.settings import warnings_for
    from orchestrator.cli.output import note, print_json
    from orchestrator.cli.shown_settings import shown
    from orchestrator.settings import load_settings

    settings = load_settings(config)
    _try_files(settings)
    idle = _try_trust_map(settings)
    warnings = [*warnings_for(settings), *idle, *_try_sandboxes(settings)]
    document = shown(settings)
    if json:
        print_json({"settings": document, "warnings": warnings})
    else:
        import yaml

        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=False), nl=False)
    for warning in warnings:
        note(f"warning: {warning}")
    if not warnings and sys.stderr.isatty():  # for a person, at the end of a long document; programs read nothing
        note("the settings fit, and there is nothing to warn of")
    if strict and warnings:
        raise typer.Exit(ExitCode.FAILURE)


def _try_files(settings: Settings) -> None:
    """Open what the settings only name: a bundle is loaded with all its checks, a key set must hold keys.

    Raises:
        ConfigurationError: the daemon could not start with it.
    """
    from orchestrator.daemon.notifications import try_endpoints
    from orchestrator.daemon.promotion.signers import try_signers
    from orchestrator.daemon.promotion.tickets import connection_of
    from orchestrator.daemon.records.audit_anchors import open_anchor
    from orchestrator.errors import ConfigurationError
    from orchestrator.evidence.approvals.people import read_people
    from orchestrator.identity.issuer_keys import FileKeys
    from orchestrator.telemetry.otlp_http import Receiver

    for number, caller in enumerate(settings.callers):
        if caller.jwks_file and not caller.jwks_file.is_file():
            raise ConfigurationError(f"callers.{number}.jwks_file: there is no file {caller.jwks_file}")
        if caller.jwks_file:
            FileKeys(caller.jwks_file)
    files = [*_files_of_github(settings), *_files_of_apps(settings), *_files_of_audit(settings)]
    for path, file in (*files, *_files_of_tickets(settings)):
        if not file.is_file():
            raise ConfigurationError(f"{path}: there is no file {file}")
    try_signers(settings.promotion)
    if settings.approvals.people is not None:
        read_people(settings.approvals.people)
    if settings.promotion.tickets:
        connection_of(settings.promotion.tickets)
    _try_gate(settings)
    _try_secrets(settings)
    if settings.telemetry.otlp_endpoint:
        Receiver(settings.telemetry.otlp_endpoint)
    try_endpoints(settings)
    for anchor in settings.audit.anchors if settings.audit.enabled else ():
        open_anchor(anchor)
    if settings.policy.bundle and settings.policy.engine == "regorus":
        from orchestrator.policy.bundle import load_configured

        load_configured(settings.policy.bundle)
    if settings.policy.candidate:
        from orchestrator.daemon.records.decision_log import load_candidate

        load_candidate(settings.policy.candidate)


def _try_sandboxes(settings: Settings) -> Iterator[str]:
    """Warns of tools that are not on this machine: the file may be checked on another one than it is for.

    Raises:
        ConfigurationError: sizes that do not fit each other, or a folder that no pool may show on any machine.
    """
    from dataclasses import replace

    from orchestrator.backends.sandbox.plan import check_sizes
    from orchestrator.backends.sandbox.toolchain import resolve
    from orchestrator.daemon import slices

    pools = slices.sandbox_pools(settings)
    check_sizes(pools)
    for name, pool in pools.items():
        elsewhere = [folder for folder in pool.toolchain if folder.is_absolute() and not folder.is_dir()]
        for folder in elsewhere:
            yield f"pool {name}: toolchain folder {folder} is not a folder; on this machine the daemon would not start"
        here = tuple(folder for folder in pool.toolchain if folder not in elsewhere)
        resolve(replace(pool, toolchain=here), (settings.state_dir,))


def _try_gate(settings: Settings) -> None:
    """Raises ConfigurationError for a CA of API servers that is none."""
    import ssl

    from orchestrator.daemon.cluster.gate import demand_certificates

    given = settings.deployment
    if given.namespaces and given.webhook.client_ca_file:
        demand_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), str(given.webhook.client_ca_file))


def _try_secrets(settings: Settings) -> None:
    """Raises ConfigurationError: a secret's file holds nothing that could be handed out, or a hook is no program."""
    import os

    from orchestrator.daemon.secrets.slice import registry
    from orchestrator.errors import ConfigurationError, TryAgainError
    from orchestrator.identity.secrets.state import SecretState
    from orchestrator.identity.secrets.value import present

    for number, secret in enumerate(registry(settings).all()):
        try:
            if secret.file is not None:
                present(secret, SecretState())
        except TryAgainError as error:
            raise ConfigurationError(f"secrets.{number}.file: {error}", fix=error.fix) from None
        for name, hook in (("rotate", secret.rotate), ("remove", secret.remove)):
            if hook is not None and not os.access(hook.command[0], os.X_OK):
                raise ConfigurationError(f"secrets.{number}.{name}.command: {hook.command[0]} is no program")


def _try_trust_map(settings: Settings) -> list[str]:
    """Load the trust map with all its checks; what it grants to nobody.

    Raises:
        ConfigurationError: the daemon could not start with it.
    """
    if not settings.identity.trust_maps:
        return []
    from orchestrator.cli.trust.idle_grants import idle_grants
    from orchestrator.daemon import slices
    from orchestrator.daemon.trust import check_fit, facts_given
    from orchestrator.identity.trust.trust_map import TrustMap

    trust_map = TrustMap.load(settings.identity.trust_maps)
    check_fit(trust_map, slices.issued(settings), slices.brokered(settings).__contains__, facts_given(settings))
    return list(idle_grants(trust_map, settings))


def _files_of_github(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Each file that a GitHub source needs, with the setting that names it."""
    for number, given in enumerate(settings.github):
        files = {
            "app.private_key_file": given.app.private_key_file if given.app else None,
            "token_file": given.token_file,
            "ca_file": given.ca_file,
            "oidc.jwks_file": given.oidc.jwks_file,
        }
        for index, file in enumerate(given.webhooks.secret_files if given.webhooks else ()):
            files[f"webhooks.secret_files.{index}"] = file
        yield from ((f"github.{number}.{name}", file) for name, file in files.items() if file is not None)


def _files_of_apps(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Each file that an App for jobs needs, with the setting that names it."""
    for name, app in settings.identity.github_apps.items():
        files = {"private_key_file": app.private_key_file, "ca_file": app.ca_file}
        yield from ((f"identity.github_apps.{name}.{key}", file) for key, file in files.items() if file is not None)


def _files_of_tickets(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Each file that the tracker of tickets needs, with the setting that names it."""
    given = settings.promotion.tickets
    files = {"token_file": given.token_file, "ca_file": given.ca_file} if given else {}
    yield from ((f"promotion.tickets.{name}", file) for name, file in files.items() if file is not None)


def _files_of_audit(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Each file that an anchor of the audit log needs, with the setting that names it."""
    for number, anchor in enumerate(settings.audit.anchors):
        http, store = anchor.http, anchor.object_store
        files = {
            "http.headers_file": http.headers_file if http else None,
            "http.ca_file": http.ca_file if http else None,
            "object_store.credentials_file": store.credentials_file if store else None,
            "object_store.ca_file": store.ca_file if store else None,
        }
        yield from ((f"audit.anchors.{number}.{name}", file) for name, file in files.items() if file is not None)
