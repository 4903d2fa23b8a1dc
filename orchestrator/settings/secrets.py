"""Settings of the secrets that are still static: each with an owner, an age it may reach, and who may have it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from orchestrator.settings.fields import Group, Name

LongSeconds = Annotated[float, Field(gt=0, le=10 * 366 * 86400)]
HookSeconds = Annotated[float, Field(gt=0, le=600)]
Word = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]
Command = Annotated[tuple[Word, ...], Field(min_length=1, max_length=32)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$")]

TAKEN = frozenset({"ssl-cert"})
"""Names whose variable programs take for something else."""


class HookSettings(Group):
    """A program of yours, run as the daemon's user in a folder of its own, without a shell. It is given what it needs
    on standard input; what it says on standard error goes nowhere. See `docs/how-to/retire-static-secrets.md`."""

    command: Command
    """Absolute path of the program, and its arguments. Nothing secret: arguments can be read by other users."""
    timeout_seconds: HookSeconds = 60
    """Longest run; then it is killed with all that it started, and has failed."""

    @field_validator("command")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not Path(value[0]).is_absolute():
            raise ValueError("must begin with an absolute path: no search path is consulted")
        return value


class RotateSettings(HookSettings):
    every_seconds: LongSeconds | None = None
    """Age at which a value is replaced. None: only when an operator asks for it."""


class RepositorySettings(Group):
    issuer: Word
    """Exact issuer of the callers: an id is unique within one issuer only."""
    id: Word
    """The fact `repository_id` of the jobs' callers, which stays when a repository is renamed."""


class SecretSettings(Group):
    """A static secret that some job still needs. Every list that is not empty must have the job in it."""

    name: Name
    """What jobs ask for. The file's path is in the variable of this name in capitals, with `_` for `-`, and `_FILE`."""
    owner: Label
    """Who answers for it: a person, or better a team."""
    file: Path | None = None
    """File with its value, of mode 0400; read again when it is replaced. None: a rotation makes the first value. Once
    the daemon has rotated a secret it keeps the value itself, and this file counts no more."""
    max_age_seconds: LongSeconds = 90 * 86400
    """Age from which a value is overdue: it is flagged, counted, and policy sees it."""
    repositories: tuple[RepositorySettings, ...] = Field(default=(), max_length=200)
    """Whose jobs may ask, as their platform says."""
    pools: tuple[Name, ...] = Field(default=(), max_length=200)
    """Pools whose jobs may ask."""
    environments: tuple[Label, ...] = Field(default=(), max_length=200)
    """Deployment environments that a job must name to ask; `none` stands for jobs that deploy nowhere."""
    pipelines: tuple[Label, ...] = Field(default=(), max_length=200)
    """Pipelines that use it. A job's pipeline is its own word: this narrows, and says when the secret can go."""
    opens: tuple[Label, ...] = Field(default=(), max_length=32)
    """What whoever has it can reach, in your own words, for the inventory."""
    idle_seconds: LongSeconds = 30 * 86400
    """Without use for so long it is flagged as one that could go."""
    rotate: RotateSettings | None = None
    """How a new value is made. None: the daemon never changes it."""
    remove: HookSettings | None = None
    """How it is taken away where it opens something, once it is retired. None: only the daemon forgets it."""

    @field_validator("name")
    @classmethod
    def _fit_for_a_variable(cls, value: str) -> str:
        if value[0].isdigit():
            raise ValueError("must begin with a letter: it becomes a variable's name")
        if value.startswith("orchestrator") or value in TAKEN:
            taken = " or ".join(sorted(TAKEN))
            raise ValueError(f"cannot begin with orchestrator, or be {taken}: such variables mean something else")
        return value

    @model_validator(mode="after")
    def _somebody_in_particular(self) -> SecretSettings:
        if not self.repositories and not self.pools:
            raise ValueError("must name repositories or pools: else every job could ask for it")
        if self.file is None and self.rotate is None:
            raise ValueError("has no value: give file, or rotate to have one made")
        return self


def check_secret_pools(secrets: tuple[SecretSettings, ...], pools: Collection[str]) -> None:
    """Raises ValueError: one names a pool that there is not."""
    for number, secret in enumerate(secrets):
        unknown = sorted(set(secret.pools) - set(pools))
        if unknown:
            known = ", ".join(sorted(pools))
            raise ValueError(f"secrets.{number}.pools names {', '.join(unknown)}, which is no pool; pools: {known}")


def unique_secrets(secrets: tuple[SecretSettings, ...]) -> tuple[SecretSettings, ...]:
    """Raises ValueError: a name is given twice, or two give the same variable."""
    names = [one.name for one in secrets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names of secrets must differ; given twice: {', '.join(twice)}")
    return secrets
