"""Which secrets there are and who may ask for them. Pure: no value is in here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NOWHERE = "none"
"""In a list of environments: jobs that deploy nowhere."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A program of the owner's: an absolute path and its arguments."""

    command: tuple[str, ...]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Registered:
    """A secret as it is registered. Empty lists demand nothing; `repositories` are pairs of issuer and id.

    `rotate_seconds` is the age at which its value is replaced by itself, None for never.
    """

    name: str
    owner: str
    max_age_seconds: float
    idle_seconds: float
    file: Path | None = None
    repositories: tuple[tuple[str, str], ...] = ()
    pools: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    opens: tuple[str, ...] = ()
    rotate: Hook | None = None
    rotate_seconds: float | None = None
    remove: Hook | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """A job, as far as it bears on which secrets it may have."""

    issuer: str
    repository_id: str
    pool: str
    environment: str
    pipeline: str


class Bar(StrEnum):
    """Why a job may not have a secret; empty when it may."""

    NONE = ""
    UNKNOWN = "secret_unknown"
    RETIRED = "secret_retired"
    PIPELINE_RETIRED = "secret_pipeline_retired"
    REPOSITORY = "secret_repository_not_listed"
    POOL = "secret_pool_not_listed"
    ENVIRONMENT = "secret_environment_not_listed"
    PIPELINE = "secret_pipeline_not_listed"
    NO_VALUE = "secret_without_value"


def barred(secret: Registered, asker: Asker, retired_pipelines: Collection[str] = ()) -> Bar:
    """What keeps this job from having the secret, by the registry alone."""
    if asker.pipeline and asker.pipeline in retired_pipelines:
        return Bar.PIPELINE_RETIRED
    if secret.repositories and (asker.issuer, asker.repository_id) not in secret.repositories:
        return Bar.REPOSITORY
    if secret.pools and asker.pool not in secret.pools:
        return Bar.POOL
    if secret.environments and (asker.environment or NOWHERE) not in secret.environments:
        return Bar.ENVIRONMENT
    if secret.pipelines and asker.pipeline not in secret.pipelines:
        return Bar.PIPELINE
    return Bar.NONE


class Registry:
    """All of them, by name, in the order they were given."""

    def __init__(self, secrets: Sequence[Registered]) -> None:
        self._by_name: Mapping[str, Registered] = {one.name: one for one in secrets}

    def get(self, name: str) -> Registered | None:
        return self._by_name.get(name)

    def all(self) -> Sequence[Registered]:
        return tuple(self._by_name.values())

    def of_pipeline(self, pipeline: str) -> Sequence[Registered]:
        """Those that nobody but this pipeline uses: they go with it."""
        return [one for one in self._by_name.values() if one.pipelines == (pipeline,)]
