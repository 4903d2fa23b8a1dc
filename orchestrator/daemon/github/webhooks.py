"""A GitHub source that is told of its jobs by webhooks: its slice of the settings, opened."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.github import slice as github_slice
from orchestrator.errors import ConfigurationError
from orchestrator.identity.secret_file import SecretFile
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.rest.runners import LabelRule
from orchestrator.intake.github.source_config import EngineOf, FreeRunners, ScaleSetConfig
from orchestrator.intake.github.urls import GitHubUrl, Scope
from orchestrator.intake.github.webhooks.inbox import WebhookInbox
from orchestrator.intake.github.webhooks.job_table import Place
from orchestrator.intake.github.webhooks.receiver import WebhookReceiver
from orchestrator.intake.github.webhooks.source import WebhookConfig, WebhookSource
from orchestrator.model.job import PoolName
from orchestrator.settings import GitHubSettings, GitHubWebhookSettings, WebhookRunnerSettings

_MAX_NAME: Final = 100


def open_webhooks(
    given: GitHubSettings,
    folder: Path,
    github: GitHub,
    facts: JobFacts,
    engine: EngineOf,
    free: FreeRunners,
    clock_ns: Callable[[], int],
    stack: AsyncExitStack,
) -> tuple[WebhookSource, WebhookReceiver]:
    """The source and what takes its deliveries in. `folder` is of the daemon's own state. Nothing is sent yet.

    Raises:
        ConfigurationError: `webhook_inbox_unusable`, `state_dir_unusable`.
    """
    hooks = given.webhooks
    assert hooks is not None, "the caller asks for a source of webhooks"
    inbox = WebhookInbox(folder / f"{given.name}.webhooks", clock_ns, max_waiting=hooks.max_waiting)
    push_closing(stack, f"inbox of GitHub {given.name}", inbox.close)
    url = github.connection.url
    config = webhook_config(given, hooks, url, installation_mark(folder))
    source = WebhookSource(config=config, github=github, facts=facts, inbox=inbox, engine=engine, free=free)
    reads = [SecretFile(path, "the webhook secret").read for path in hooks.secret_files]
    return source, WebhookReceiver(url, reads, inbox, max_body_bytes=hooks.max_body_bytes)


def webhook_config(given: GitHubSettings, hooks: GitHubWebhookSettings, url: GitHubUrl, mark: str) -> WebhookConfig:
    """The source's settings in its own words."""
    rules = tuple(_rule(one) for one in hooks.runners)
    names = hooks.repositories if url.scope is not Scope.REPOSITORY else (url.repository,)
    return WebhookConfig(
        source=replace(github_slice.source(given, url), scale_sets=tuple(rule.runners for rule in rules)),
        rules=rules,
        mark=mark,
        places=tuple(Place(url.owner, name) for name in names),
        hook_id=hooks.hook_id or None,
        ask_deliveries=bool(hooks.hook_id) or given.app is not None,
        queued_seconds=hooks.queued_seconds,
        deliveries_seconds=hooks.deliveries_seconds,
    )


def _rule(given: WebhookRunnerSettings) -> LabelRule:
    runners = ScaleSetConfig(
        name=_name(given.labels),
        pool=PoolName(given.pool),
        group=str(given.group_id),
        labels=given.labels,
        max_runners=given.max_runners,
        script=github_slice.script(given),
        work_folder=given.work_folder,
    )
    return LabelRule(runners, given.group_id)


def _name(labels: Sequence[str]) -> str:
    """Names a rule within its source; no label has a comma."""
    name = ",".join(labels)
    digest = hashlib.sha256(name.lower().encode()).hexdigest()[:8]
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 9]},{digest}"


def installation_mark(folder: Path) -> str:
    """The label that only this installation's runners have, made once.

    Raises:
        ConfigurationError: `state_dir_unusable`.
    """
    path = folder / "mark"
    try:
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.write_text(f"by-{secrets.token_hex(8)}\n", encoding="ascii")
            fresh.replace(path)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read or written: {error}",
            reason="state_dir_unusable",
            fix="check permissions and free space of the state folder",
        ) from error
