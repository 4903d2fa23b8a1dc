"""What of changed settings can be in force without a restart, and what differs at all. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from orchestrator.errors import ConfigurationError
from orchestrator.settings.load import invalid_settings
from orchestrator.settings.tree import PoolSettings, Settings

_Table = TypeVar("_Table", bound=BaseModel)

_SANDBOX: Final = "sandbox"

_OF_SANDBOXES: Final = ("capacity", "egress", "require_egress_proof", "max_job_seconds", "sandbox", "kubernetes")
_OF_PODS: Final = ("egress", "require_egress_proof", "sandbox")
"""What of a pool whose runners are pods is in no manifest: all else has to be applied to the cluster too, which starts
the daemon again."""

_DEADLINES: Final = (
    "admission_seconds",
    "capacity_seconds",
    "provision_seconds",
    "bind_seconds",
    "naming_seconds",
    "refusal_seconds",
    "completion_seconds",
    "drain_seconds",
)
_LOGS: Final = ("level", "format")


@dataclass(frozen=True, slots=True)
class Change:
    """From the settings in force to those found: `in_force` is as far as one gets without a restart.

    `changed` are the paths of what is different then, `restart` of what would be after one: `pools.NAME.capacity`, or
    `pools.NAME` for one that comes or goes. Values are not told: some are secret.
    """

    in_force: Settings
    changed: tuple[str, ...]
    restart: tuple[str, ...]


def plan_change(running: Settings, found: Settings, backends: Collection[str]) -> Change:
    """`backends` are those that the daemon has opened.

    Raises:
        ConfigurationError: what would be in force does not fit what needs a restart, such as a pool that is gone and a
            source in force which still names it.
    """
    wanted = {
        "pools": tuple(_pools(running, found, backends)),
        "deadlines": _taken(running.deadlines, found.deadlines, _DEADLINES),
        "logs": _taken(running.logs, found.logs, _LOGS),
        "notifications": found.notifications,
    }
    given: dict[str, Any] = {name: getattr(running, name) for name in Settings.model_fields} | wanted
    try:
        in_force = Settings(**given)
    except ValidationError as error:
        raise ConfigurationError(
            f"without a restart, {invalid_settings(error, None)}",
            reason="restart_needed",
            fix="restart the daemon, which puts all changes in force together",
        ) from None
    return Change(in_force, tuple(differing(running, in_force)), tuple(differing(in_force, found)))


def _pools(running: Settings, found: Settings, backends: Collection[str]) -> Iterator[PoolSettings]:
    """In the order of those found; a pool that cannot go without a restart stays, behind them."""
    before = {pool.name: pool for pool in running.pools}
    after = {pool.name: pool for pool in found.pools}
    for name, pool in after.items():
        old = before.get(name)
        if old is not None:
            yield _pool(old, pool)
        elif pool.backend == _SANDBOX and _SANDBOX in backends:
            yield pool
    yield from (pool for name, pool in before.items() if name not in after and pool.backend != _SANDBOX)


def _pool(old: PoolSettings, new: PoolSettings) -> PoolSettings:
    if old.backend != new.backend:
        return old
    taken = _taken(old, new, _OF_SANDBOXES if new.backend == _SANDBOX else _OF_PODS)
    # All sandboxes have their users from one range, which is fixed when their launcher starts.
    sandbox = taken.sandbox.model_copy(update={"host_uid_base": old.sandbox.host_uid_base})
    return taken.model_copy(update={"sandbox": sandbox})


def _taken(old: _Table, new: _Table, names: Collection[str]) -> _Table:
    return old.model_copy(update={name: getattr(new, name) for name in names})


def differing(before: BaseModel, after: BaseModel, place: str = "") -> Iterator[str]:
    """The paths of settings that differ; entries of a list go by their names, where they have some."""
    for name in type(after).model_fields:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        here = f"{place}{name}"
        if isinstance(old, BaseModel) and isinstance(new, BaseModel):
            yield from differing(old, new, f"{here}.")
        elif (ones := _by_name(old)) is not None and (others := _by_name(new)) is not None:
            yield from _entries(ones, others, here)
        else:
            yield here


def _by_name(value: object) -> dict[str, BaseModel] | None:
    if not isinstance(value, tuple) or not all(isinstance(one, BaseModel) and hasattr(one, "name") for one in value):
        return None
    return {str(one.name): one for one in value}


def _entries(ones: dict[str, BaseModel], others: dict[str, BaseModel], place: str) -> Iterator[str]:
    for name in dict.fromkeys([*others, *ones]):
        if name not in ones or name not in others:
            yield f"{place}.{name}"
        elif ones[name] != others[name]:
            yield from differing(ones[name], others[name], f"{place}.{name}.")
