"""The registered secrets of the settings, opened as the daemon keeps them."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.daemon.secrets.room import SecretsRoom
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.identity.secrets.registry import Hook, Registered, Registry
from orchestrator.identity.secrets.state import StateStore
from orchestrator.private_file import private_folder
from orchestrator.settings import Settings
from orchestrator.settings.secrets import HookSettings, SecretSettings


def open_secrets(settings: Settings, notes: AuditNotes, now_ns: Callable[[], int]) -> SecretsRoom:
    """
    Raises:
        ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
        TryAgainError: reason `keys_unavailable`.
    """
    keys = settings.state_dir / "keys"
    private_folder(keys)
    hashed = KeyedHash.open(keys / "secret-versions")
    store = StateStore(settings.state_dir / "secrets")
    for name in store.names():
        store.get(name)  # a state that is damaged must be known of before a retired secret is given to anybody
    store.pipelines()
    return SecretsRoom(registry(settings), store, notes, hashed.of, now_ns)


def registry(settings: Settings) -> Registry:
    return Registry([_registered(one) for one in settings.secrets])


def _registered(given: SecretSettings) -> Registered:
    return Registered(
        name=given.name,
        owner=given.owner,
        max_age_seconds=given.max_age_seconds,
        idle_seconds=given.idle_seconds,
        file=given.file,
        repositories=tuple((one.issuer, one.id) for one in given.repositories),
        pools=given.pools,
        environments=given.environments,
        pipelines=given.pipelines,
        opens=given.opens,
        rotate=_hook(given.rotate),
        rotate_seconds=given.rotate.every_seconds if given.rotate else None,
        remove=_hook(given.remove),
    )


def _hook(given: HookSettings | None) -> Hook | None:
    return Hook(tuple(given.command), given.timeout_seconds) if given else None
