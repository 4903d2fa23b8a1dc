"""Whose word about artifacts counts: the signers of the settings, read at start and again when asked.

What is not fit never replaces what was: a file that is gone or damaged keeps the signers before in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.attestations.examine import claim_of
from orchestrator.evidence.attestations.keys import MAX_KEYS_BYTES, PublicKey, read_keys
from orchestrator.evidence.attestations.signers import Claim, Reporters, Signer, Signers, control_plane
from orchestrator.evidence.provenance import Builder
from orchestrator.evidence.signing_key import EvidenceKey, key_id
from orchestrator.model.job import PoolName
from orchestrator.model.pool import Pool
from orchestrator.settings import Settings
from orchestrator.settings.promotion import PromotionSettings
from orchestrator.settings.signers import ReporterSettings, SignerSettings

_SANDBOX: Final = "sandbox"
_LEVEL_OF_PODS: Final = 3
_LEVEL_OF_SANDBOXES: Final = 2
_LEVEL_WAIVED: Final = 1


class SignersHolder:
    """The signers in force. `load` before `current`."""

    def __init__(self, settings: Settings, pools: Mapping[PoolName, Pool], builder: Builder, key: EvidenceKey) -> None:
        self._settings = settings.promotion
        self._pools = pools
        self._builder = builder
        self._key = key.public
        self._own: Sequence[PublicKey] = (key.public,)
        self._files: Mapping[Path, Sequence[PublicKey]] = {}
        self._signers = self._as_of_now()
        self._loading = asyncio.Lock()

    @property
    def configured(self) -> bool:
        """Whether there is any file to read again."""
        return bool(self._settings.signers or self._settings.previous_keys)

    @property
    def digest(self) -> str:
        """Of the keys in force and what each may say."""
        return self._signers.digest

    def current(self) -> Signers:
        return self._signers

    def lists_reporter(self, predicate_type: str, pool: str, caller: str) -> bool:
        """Whether jobs of this pool or this caller (id) are named as reporters of such documents. A scanner's name
        does not matter here: whoever reports for one may have room for all."""
        found = self._signers
        match claim_of(predicate_type):
            case Claim.SBOM:
                return found.sboms.include(pool, caller)
            case Claim.SCAN:
                return any(one.include(pool, caller) for one in found.scanners.values())
            case _:
                return False

    async def load(self, before: Callable[[str, Sequence[str]], Awaitable[None]] | None = None) -> bool:
        """Read the key files, and put what they hold in force; whether anything changed by it.

        `before` is awaited with the digest and names of signers that are new, before they are in force; if it raises,
        that is not done.

        Raises:
            ConfigurationError: they are not fit; what was in force stays.
        """
        async with self._loading:
            files = await asyncio.to_thread(read_key_files, self._settings)
            own = (self._key, *(key for path in self._settings.previous_keys for key in files[path]))
            found = self._with(own, files)
            changed = found.digest != self._signers.digest
            if changed and before is not None:
                await before(found.digest, list(self._settings.signers))
            self._own, self._files = own, files
            self._signers = self._as_of_now()
            return changed

    def pools_changed(self) -> None:
        """Have our own key speak for the builders that the pools are by now."""
        self._signers = self._as_of_now()

    def _as_of_now(self) -> Signers:
        return self._with(self._own, self._files)

    def _with(self, own: Sequence[PublicKey], files: Mapping[Path, Sequence[PublicKey]]) -> Signers:
        return _signers(self._settings, own_builders(self._settings, self._pools, self._builder), own, files)


def own_builders(settings: PromotionSettings, pools: Mapping[PoolName, Pool], builder: Builder) -> dict[str, int]:
    """The builder ids that our own evidence key speaks for, each with its SLSA Build level.

    Pools that share an id share the lowest level of them: the id is all that provenance can be held to.
    """
    found: dict[str, int] = {}
    for name, pool in pools.items():
        usual = _LEVEL_OF_SANDBOXES if pool.backend == _SANDBOX else _LEVEL_OF_PODS
        level = settings.build_levels.get(name, usual)
        for identifier, worth in (
            (builder.id_for(pool), level),
            (builder.id_for(pool, waived=True), min(level, _LEVEL_WAIVED)),
        ):
            found[identifier] = min(worth, found.get(identifier, worth))
    return found


def try_signers(settings: PromotionSettings) -> None:
    """Read all that the settings name, and put nothing in force.

    Raises:
        ConfigurationError: a daemon could not start with it.
    """
    files = read_key_files(settings)
    _signers(settings, {}, [key for path in settings.previous_keys for key in files[path]], files)


def read_key_files(settings: PromotionSettings) -> Mapping[Path, Sequence[PublicKey]]:
    """All key files that the settings name.

    Raises:
        ConfigurationError: one cannot be read (`signer_key_unreadable`), or holds no such keys (`signer_key_unusable`).
    """
    return {path: _read_file(path, where) for where, path in _files(settings)}


def _files(settings: PromotionSettings) -> Iterator[tuple[str, Path]]:
    for name, signer in settings.signers.items():
        for number, path in enumerate(signer.key_files):
            yield f"promotion.signers.{name}.key_files.{number}", path
    for number, path in enumerate(settings.previous_keys):
        yield f"promotion.previous_keys.{number}", path


def _read_file(path: Path, where: str) -> Sequence[PublicKey]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEYS_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{where}: cannot read {path}: {error.strerror}",
            reason="signer_key_unreadable",
            fix="check the path and its permissions, or take the key out of the settings",
        ) from None
    if len(data) > MAX_KEYS_BYTES:
        raise ConfigurationError(
            f"{where}: {path} is larger than {MAX_KEYS_BYTES} bytes",
            reason="signer_key_unusable",
            fix="name a PEM file with public keys",
        )
    return read_keys(data.decode("utf-8", "replace"), f"{where}: {path}")


def _signers(
    settings: PromotionSettings,
    builders: Mapping[str, int],
    own: Sequence[PublicKey],
    files: Mapping[Path, Sequence[PublicKey]],
) -> Signers:
    """Those whose files were read; before the first reading that is nobody but ourselves."""
    listed = [
        _signer(name, given, [key for path in given.key_files for key in files[path]])
        for name, given in settings.signers.items()
        if all(path in files for path in given.key_files)
    ]
    return Signers(
        [control_plane(_each_once(own), builders), *listed],
        scanners={name: _reporters(given) for name, given in settings.scanners.items()},
        sboms=_reporters(settings.sbom_reporters),
    )


def _each_once(keys: Iterable[PublicKey]) -> tuple[PublicKey, ...]:
    return tuple({key_id(key): key for key in keys}.values())


def _signer(name: str, given: SignerSettings, keys: Iterable[PublicKey]) -> Signer:
    return Signer(
        name=name,
        keys=_each_once(keys),
        may=frozenset(Claim(claim) for claim in given.may),
        builders=given.builders,
        scanners=frozenset(given.scanners),
        parameters=frozenset(given.external_parameters) if given.external_parameters is not None else None,
        not_before_ns=_nanoseconds(given.not_before) if given.not_before else 0,
        not_after_ns=_nanoseconds(given.not_after) if given.not_after else None,
    )


def _reporters(given: ReporterSettings) -> Reporters:
    return Reporters(frozenset(given.pools), frozenset(given.callers))


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
