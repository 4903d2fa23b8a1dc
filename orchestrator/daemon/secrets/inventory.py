"""Every credential that the daemon holds or brokers, found where it lies; never a value of one.

Files are looked at from outside only. What the daemon counts (uses, last use) comes from its facts.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from orchestrator.daemon.secrets.desk import SecretDesk
from orchestrator.daemon.trust import TrustHolder
from orchestrator.identity.issuers import IssuerSet
from orchestrator.identity.secrets.credentials import Credential, Kind, Rotation, ranked
from orchestrator.identity.trust.inventory import inventory as grants_of
from orchestrator.lifecycle.observation import SECOND
from orchestrator.policy.input import rfc3339
from orchestrator.settings import Settings
from orchestrator.telemetry.scores import follow
from orchestrator.telemetry.scores.tally import DayTally

DAEMON: Final = "daemon"
PRODUCTION: Final = frozenset({"prod", "production", "live"})
"""Environments by their names; and those that a trust map calls protected."""

_FILES_OF_SETTINGS: Final = {
    "private_key_file": (Kind.APP_KEY, "makes installation tokens of a GitHub App"),
    "token_file": (Kind.ACCESS_TOKEN, "speaks to the platform in its owner's name"),
    "secret_files": (Kind.WEBHOOK_SECRET, "has deliveries believed"),
    "headers_file": (Kind.OTHER_FILE, "writes to where checkpoints are anchored"),
    "credentials_file": (Kind.ACCESS_TOKEN, "writes to where checkpoints are anchored"),
}
"""Names of settings whose files hold a credential. Those of `secrets` are told apart."""

_KEY_FILES: Final = {
    "evidence/evidence.pem": (Kind.EVIDENCE_KEY, Rotation.BY_HAND, "signs provenance, summaries and receipts"),
    "audit": (Kind.AUDIT_KEY, Rotation.BY_HAND, "signs checkpoints of the audit log"),
    "audit-hash": (Kind.AUDIT_KEY, Rotation.BY_HAND, "recognises hashed values in the audit log"),
    "secret-versions": (Kind.AUDIT_KEY, Rotation.BY_HAND, "recognises values of secrets by their versions"),
    "runner-api-ca.pem": (Kind.SERVING_KEY, Rotation.AUTOMATIC, "vouches for the runner API to pods"),
    "runner-api.pem": (Kind.SERVING_KEY, Rotation.AUTOMATIC, "is the runner API to pods"),
}
"""Below `keys` in the state folder. What lies there besides is told by its name."""

_BY_ROOMS: Final = "issuer.json"
"""Of which the issuers tell more than the file does."""


@dataclass
class Sources:
    """What the inventory is read from; `settings` are those in force, and replaced when others are."""

    settings: Settings
    issuers: IssuerSet
    trust: TrustHolder
    secrets: SecretDesk
    tally: DayTally
    now_ns: Callable[[], int]

    def environments(self) -> frozenset[str]:
        trust = self.trust.current()
        return PRODUCTION | {one.environment for one in (trust.documents if trust else ()) if one.protected}


async def inventory(given: Sources) -> dict[str, Any]:
    """See `account_shapes.CredentialsView`."""
    found = ranked(await asyncio.to_thread(lambda: list(_all(given))))
    return {
        "at": rfc3339(given.now_ns()),
        "counted_since": rfc3339(given.tally.since_ns),
        "credentials": as_json(found),
    }


def as_json(found: Sequence[Credential]) -> list[dict[str, Any]]:
    return [one.as_json() for one in found]


def _all(given: Sources) -> Iterator[Credential]:
    yield from _secrets(given)
    yield from _issuer_keys(given)
    yield from _key_files(given)
    yield from _settings_files(given)
    yield from _grants(given)


def _used(given: Sources, key: str) -> dict[str, Any]:
    last = given.tally.last_ns(key)
    return {"uses": given.tally.total(key), "last_used_at": rfc3339(last) if last else ""}


def _secrets(given: Sources) -> Iterator[Credential]:
    production = given.environments()
    tiers = {pool.name: pool.trust_tier.value for pool in given.settings.pools}
    for view in given.secrets.views():
        strict = any(tiers.get(pool) == "protected" for pool in view["pools"])
        reaches = not view["environments"] or bool(production & set(view["environments"]))
        where = view["file"] if view["source"] == "file" else str(given.secrets.folder / f"{view['name']}.json")
        yield Credential(
            id=f"secret {view['name']}",
            kind=Kind.STATIC_SECRET,
            owner=view["owner"],
            where=where,
            rotation=_rotation(view),
            opens=view["opens"],
            jobs=_may_ask(view),
            created_at=view["since"] or "",
            age_seconds=view["age_seconds"],
            max_age_seconds=view["max_age_seconds"],
            last_used_at=view["last_used_at"] or "",
            uses=view["uses"],
            state=view["state"],
            flags=view["flags"],
            production=strict or reaches,
        )


def _rotation(view: Mapping[str, Any]) -> Rotation:
    if view["rotate_seconds"] is not None:
        return Rotation.HOOK
    return Rotation.FILE if view["source"] == "file" else Rotation.BY_HAND


def _may_ask(view: Mapping[str, Any]) -> list[str]:
    said = [f"repository {one}" for one in view["repositories"]] + [f"pool {one}" for one in view["pools"]]
    said += [f"environment {one}" for one in view["environments"]]
    return said + [f"pipeline {one}" for one in view["pipelines"]]


def _issuer_keys(given: Sources) -> Iterator[Credential]:
    for name, issuer in given.issuers.items():
        folder = given.settings.state_dir / "keys"
        for key in issuer.keys.states():
            since_ns = int(key.since * SECOND)
            yield Credential(
                id=f"issuer key {key.kid}",
                kind=Kind.ISSUER_KEY,
                owner=DAEMON,
                where=str((folder / "issuers" / name if name else folder) / _BY_ROOMS),
                rotation=Rotation.AUTOMATIC,
                opens=sorted(issuer.config.audiences),
                jobs=[f"every token of {issuer.url}"],
                created_at=rfc3339(since_ns),
                age_seconds=max(0, (given.now_ns() - since_ns) // SECOND),
                max_age_seconds=int(issuer.keys.schedule.rotation_seconds),
                state=key.state.value,
                production=key.state.value == "active",
                **_used(given, follow.KEY + key.kid),
            )


def _key_files(given: Sources) -> Iterator[Credential]:
    folder = given.settings.state_dir / "keys"
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _BY_ROOMS):
        name = path.relative_to(folder).as_posix()
        unknown = (Kind.OTHER_FILE, Rotation.BY_HAND, "is a key of the daemon's")
        kind, rotation, opens = _KEY_FILES.get(name, unknown)
        yield _file(given, f"key file {name}", path, kind, DAEMON, rotation, [opens])
    token = given.settings.state_dir / "caller-token"
    if token.exists():
        can = ["everything that the API lets operators do"]
        yield _file(given, "caller token", token, Kind.CALLER_TOKEN, DAEMON, Rotation.AUTOMATIC, can)


def _settings_files(given: Sources) -> Iterator[Credential]:
    for setting, path in _paths(given.settings, ""):
        kind, opens = _FILES_OF_SETTINGS[next(part for part in reversed(setting.split(".")) if not part.isdigit())]
        yield _file(given, f"setting {setting}", path, kind, "operators", Rotation.FILE, [opens])


def _paths(node: object, where: str) -> Iterator[tuple[str, Path]]:
    """Each file of the settings that holds a credential, with the setting that names it."""
    if isinstance(node, BaseModel):
        named = [(name, getattr(node, name)) for name in type(node).model_fields if name != "secrets"]
    elif isinstance(node, Mapping):
        named = [(str(name), one) for name, one in node.items()]
    elif isinstance(node, tuple):
        named = [(str(number), one) for number, one in enumerate(node)]
    else:
        return
    for name, one in named:
        here = f"{where}.{name}".lstrip(".")
        if name in _FILES_OF_SETTINGS:
            files = one if isinstance(one, tuple) else (one,)
            yield from ((here if len(files) == 1 else f"{here}.{at}", file) for at, file in enumerate(files) if file)
        else:
            yield from _paths(one, here)


def _file(
    given: Sources, name: str, path: Path, kind: Kind, owner: str, rotation: Rotation, opens: Sequence[str]
) -> Credential:
    """A credential of which only its file is known."""
    flags: list[str] = []
    age = None
    created = ""
    try:
        info = path.stat()
    except OSError:
        flags.append("no_value")
    else:
        created = rfc3339(info.st_mtime_ns)
        age = max(0, (given.now_ns() - info.st_mtime_ns) // SECOND)
        if stat.S_IMODE(info.st_mode) & 0o007:
            flags.append("readable_by_others")
    return Credential(
        id=name, kind=kind, owner=owner, where=str(path), rotation=rotation, opens=opens, created_at=created,
        age_seconds=age, flags=flags,
    )  # fmt: skip


def _grants(given: Sources) -> Iterator[Credential]:
    trust = given.trust.current()
    if trust is None:
        return
    files = {one.environment: one.path for one in trust.documents}
    protected = {one.environment for one in trust.documents if one.protected}
    for row in grants_of(trust).rows:
        used = [given.tally.total(f"{follow.GRANT}{row.rule} {role}") for role in row.roles or ("",)]
        last = max(given.tally.last_ns(f"{follow.GRANT}{row.rule} {role}") for role in row.roles or ("",))
        yield Credential(
            id=f"grant {row.rule}",
            kind=Kind.GRANT,
            owner=f"trust map of {row.environment}",
            where=str(files.get(row.environment, "")),
            rotation=Rotation.AUTOMATIC,
            opens=[f"{row.environment}/{row.target} {role}".strip() for role in row.roles or ("",)],
            jobs=row.identities,
            max_age_seconds=row.latest_seconds,
            uses=sum(used),
            last_used_at=rfc3339(last) if last else "",
            flags=() if sum(used) else ("unused",),
            production=row.environment in protected,
        )
