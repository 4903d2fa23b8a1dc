"""Whose word counts for what: the control plane's own keys, and the signers that the settings name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.attestations.keys import PublicKey, hint_of
from orchestrator.evidence.signing_key import key_id

CONTROL_PLANE: Final = "control-plane"
"""The name of the daemon's own evidence keys among the signers."""
MOST_KEYS: Final = 256


class Claim(StrEnum):
    """What an attestation says of an artifact; what else signed statements may be is nobody's to say here."""

    SIGNATURE = "signature"
    SBOM = "sbom"
    PROVENANCE = "provenance"
    SCAN = "scan"


@dataclass(frozen=True, slots=True)
class Signer:
    """One signer, and what it may say. Times are Unix nanoseconds.

    `builders` are the exact builder ids that it may speak for, each with the SLSA Build level (0 to 3) which its
    provenance is worth; `scanners` the names of the scanners whose reports it may sign. `parameters` are the external
    parameters of a build that are expected, by name: provenance with another one is refused, as SLSA wants of
    verifiers; None leaves that to policy, which sees their names.
    """

    name: str
    keys: tuple[PublicKey, ...]
    may: frozenset[Claim]
    builders: Mapping[str, int] = field(default_factory=dict)
    scanners: frozenset[str] = frozenset()
    parameters: frozenset[str] | None = None
    not_before_ns: int = 0
    not_after_ns: int | None = None

    @property
    def is_control_plane(self) -> bool:
        return self.name == CONTROL_PLANE

    def refusal(self, claim: Claim, now_ns: int) -> str:
        """Why its word does not count for `claim` now; empty when it does."""
        if now_ns < self.not_before_ns:
            return "signer_not_yet_valid"
        if self.not_after_ns is not None and now_ns >= self.not_after_ns:
            return "signer_expired"
        return "" if claim in self.may else "signer_not_entitled"


def control_plane(keys: Iterable[PublicKey], builders: Mapping[str, int]) -> Signer:
    """The daemon itself: today's evidence key and those before it, and the builders it stands for (with levels)."""
    return Signer(CONTROL_PLANE, tuple(keys), frozenset(Claim), builders)


@dataclass(frozen=True, slots=True)
class Reporters:
    """Jobs whose reports count although others built the artifact: those of these pools, and of these callers (ids)."""

    pools: frozenset[str] = frozenset()
    callers: frozenset[str] = frozenset()

    def include(self, pool: str, caller: str) -> bool:
        return pool in self.pools or caller in self.callers


NOBODY: Final = Reporters()


class Signers:
    """All signers, by key. `scanners` says for each scanner by name which jobs may report its findings, `sboms` which
    may report a bill of materials besides the job that built the artifact.

    Raises:
        ConfigurationError: reason `signer_key_shared` (one key of two signers: what it signed would have two authors),
            `signers_too_many`.
    """

    def __init__(
        self, listed: Iterable[Signer], *, scanners: Mapping[str, Reporters] | None = None, sboms: Reporters = NOBODY
    ) -> None:
        self.scanners: Mapping[str, Reporters] = scanners if scanners is not None else {}
        self.sboms = sboms
        self._keys: list[tuple[PublicKey, Signer]] = []
        self._named: dict[str, tuple[PublicKey, Signer]] = {}
        for signer in listed:
            for key in signer.keys:
                self._add(key, signer)

    def _add(self, key: PublicKey, signer: Signer) -> None:
        known = self._named.get(key_id(key))
        if known is not None:
            raise ConfigurationError(
                f"the signers {known[1].name!r} and {signer.name!r} have one key in common",
                reason="signer_key_shared",
                fix="give each signer a key of its own, and each key once",
            )
        if len(self._keys) >= MOST_KEYS:
            raise ConfigurationError(
                f"more than {MOST_KEYS} keys of signers", reason="signers_too_many", fix="remove those not in use"
            )
        self._keys.append((key, signer))
        identifier = key_id(key)
        for name in (identifier, identifier.removeprefix("sha256:"), hint_of(key)):
            self._named[name] = (key, signer)

    def named(self, name: str) -> tuple[PublicKey, Signer] | None:
        """The key that a signature names: by its id, with or without `sha256:`, or by a bundle's hint."""
        return self._named.get(name)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over the keys and what each may say; another one is another answer to what counts."""
        told = [
            (
                key_id(key),
                signer.name,
                sorted(signer.may),
                sorted(signer.builders.items()),
                sorted(signer.scanners),
                sorted(signer.parameters) if signer.parameters is not None else None,
                signer.not_before_ns,
                signer.not_after_ns,
            )
            for key, signer in self._keys
        ]
        reporters = {
            name: (sorted(one.pools), sorted(one.callers)) for name, one in (("", self.sboms), *self.scanners.items())
        }
        text = json.dumps([told, reporters], sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def keys(self) -> tuple[tuple[PublicKey, Signer], ...]:
        return tuple(self._keys)
