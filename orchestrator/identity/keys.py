"""The issuer's private keys: one file, readable by the daemon's user only, and what is published of them.

All keys live in one file that is replaced as a whole, so no crash can leave two half-made states. Keys are
parsed once, at opening: parsing a PEM costs fifty times a signature. The plan is `rotation.py`'s; here
is only the thin I/O.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from orchestrator.errors import GiveUpError
from orchestrator.identity.jwks import ALGORITHMS, Jwk, VerifyKey, public_jwk
from orchestrator.identity.rotation import KeyFacts, KeyState, RotationPlan, RotationSchedule, plan_asked, plan_rotation
from orchestrator.private_file import damaged, private_folder, read_private_file, write_private_file

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_FILE: Final = "issuer.json"
_VERSION: Final = 1
_MAX_FILE_BYTES: Final = 1 << 20
_RSA_BITS: Final = 2048
_MOST_REVOKED: Final = 64
"""Withdrawn keys that are remembered, the newest: enough to answer who asks again."""
_MOST_RETIRING: Final = 16
"""Old keys that are published at the same time: verifiers take no key set of any size."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A parsed key pair. `since` is when its present state began, in Unix seconds; `asked` as in `KeyFacts`."""

    kid: str
    algorithm: str
    state: KeyState
    since: float
    private: PrivateKey = field(repr=False)
    jwk: Jwk = field(repr=False)
    asked: bool = False

    @property
    def facts(self) -> KeyFacts:
        return KeyFacts(self.kid, self.algorithm, self.state, self.since, self.asked)

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.kid, self.algorithm, self.private.public_key())


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """What is remembered of a key that was withdrawn, at `since` in Unix seconds: nothing to sign or verify with."""

    kid: str
    algorithm: str
    since: float


def generate_key(algorithm: str, state: KeyState, now: float) -> SigningKey:
    """A fresh key pair. RSA takes about 50 ms of processor time, P-256 next to none."""
    private: PrivateKey
    if algorithm == "RS256":
        private = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    else:
        private = ec.generate_private_key(ec.SECP256R1())
    jwk = public_jwk(private.public_key())
    return SigningKey(jwk["kid"], algorithm, state, now, private, jwk)


class KeyStore:
    """The issuer's keys on disk and in memory. Safe to call from several threads.

    A change is durable before it is visible: a key that signs is always one that a restart finds again.
    """

    def __init__(
        self,
        folder: Path,
        schedule: RotationSchedule,
        keys: Sequence[SigningKey],
        revoked: Sequence[RevokedKey] = (),
    ) -> None:
        self._folder = folder
        self.schedule = schedule
        self._keys: tuple[SigningKey, ...] = tuple(keys)
        self._revoked: tuple[RevokedKey, ...] = tuple(revoked)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, schedule: RotationSchedule, now: float) -> KeyStore:
        """Load the keys in `folder` (made with mode 0700 if absent), or make the first ones.

        Raises:
            ConfigurationError: `keys_unsafe` (another owner, or others may read) or `keys_corrupt`.
            TryAgainError: `keys_unavailable`, the folder or file cannot be read or written.
        """
        private_folder(folder)
        with contextlib.suppress(FileNotFoundError):
            (folder / f"{_FILE}.tmp").unlink()
        store = cls(folder, schedule, *_load(folder / _FILE))
        store.rotate(now)
        return store

    def signing_key(self, algorithm: str) -> SigningKey:
        """The one active key of an algorithm.

        Raises:
            GiveUpError: `algorithm_unsupported`.
        """
        for key in self._keys:
            if key.algorithm == algorithm and key.state is KeyState.ACTIVE:
                return key
        raise GiveUpError(f"no key signs {algorithm}", reason="algorithm_unsupported", fix="use RS256 or ES256")

    def published(self) -> tuple[Jwk, ...]:
        """Public halves of all keys, in every state: what the key set document holds."""
        return tuple(key.jwk for key in self._keys)

    def states(self) -> tuple[KeyFacts, ...]:
        return tuple(key.facts for key in self._keys)

    def revoked(self) -> tuple[RevokedKey, ...]:
        """Keys that were withdrawn, oldest first, as far as they are remembered."""
        return self._revoked

    def verify_key(self, kid: str) -> VerifyKey | None:
        """The published key of this id, to check what we signed ourselves."""
        return next((key.verify_key for key in self._keys if key.kid == kid), None)

    def publishes(self, kid: str) -> bool:
        """Whether the key is still in the set, so that a signature by it would verify."""
        return any(key.kid == kid for key in self._keys)

    def rotate(self, now: float) -> RotationPlan:
        """Bring the set to what the schedule wants at `now` (Unix seconds); returns what was done.

        Call it at least ten times per `publish_ahead_seconds`; being late is safe, an old key just signs longer.

        Raises:
            TryAgainError: `keys_unavailable`; nothing changed.
        """
        with self._lock:
            return self._rotate(list(self._keys), now)

    def ask(self, now: float, *, at_once: bool = False) -> RotationPlan:
        """Have each active key followed by another without waiting for its time; returns what was done.

        The follower is published now and signs `publish_ahead_seconds` later, by `rotate`, also after a restart; with
        `at_once` it signs now. What the old key has signed verifies as long as after any rotation. Again while one
        waits to sign is without effect.

        Raises:
            GiveUpError: `keys_too_many`: so many old keys are still published that one more would be too many.
            TryAgainError: `keys_unavailable`; nothing changed.
        """
        with self._lock:
            plan = plan_asked(self.states(), self.schedule, ALGORITHMS, now, at_once=at_once)
            # Those that sign now retire later, where they do not at once.
            retiring = sum(key.state is KeyState.RETIRING for key in self._keys) + len(ALGORITHMS)
            if plan and retiring > _MOST_RETIRING:
                raise GiveUpError(
                    "As many old signing keys as may be are still published.",
                    reason="keys_too_many",
                    fix="wait until the oldest of them is gone; `orchestrator keys` shows since when each is retiring",
                )
            if plan:
                self._apply(plan, list(self._keys), now, self._revoked, asked=True)
            return plan

    def revoke(self, kid: str, now: float) -> RotationPlan:
        """Withdraw a key at once, whatever its state; a successor signs from now on.

        Our own checks refuse its tokens from here on. Relying parties honour it until they fetch the
        key set again, so they have to be told as well. Returns what was done to have a successor; again is without
        effect.

        Raises:
            GiveUpError: `key_unknown`.
            TryAgainError: `keys_unavailable`; nothing changed.
        """
        with self._lock:
            keys = [key for key in self._keys if key.kid != kid]
            gone = [RevokedKey(key.kid, key.algorithm, now) for key in self._keys if key.kid == kid]
            if gone:
                return self._rotate(keys, now, (*self._revoked, *gone)[-_MOST_REVOKED:])
            if any(key.kid == kid for key in self._revoked):
                return RotationPlan()
            raise GiveUpError("No key has this kid.", reason="key_unknown", fix="see `orchestrator keys`")

    def _rotate(
        self, keys: list[SigningKey], now: float, revoked: tuple[RevokedKey, ...] | None = None
    ) -> RotationPlan:
        """`revoked` when a key was taken out of `keys`, so that there is something to keep whatever the plan is."""
        plan = plan_rotation([key.facts for key in keys], self.schedule, ALGORITHMS, now)
        if not plan and revoked is None:
            return plan
        self._apply(plan, keys, now, self._revoked if revoked is None else revoked)
        return plan

    def _apply(
        self,
        plan: RotationPlan,
        keys: Sequence[SigningKey],
        now: float,
        revoked: tuple[RevokedKey, ...],
        *,
        asked: bool = False,
    ) -> None:
        """Make it durable, then visible. `asked` is for those that are created."""
        after = []
        for key in keys:
            if key.kid in plan.remove:
                continue
            if key.kid in plan.activate:
                after.append(replace(key, state=KeyState.ACTIVE, since=now, asked=False))
            elif key.kid in plan.retire:
                after.append(replace(key, state=KeyState.RETIRING, since=now))
            else:
                after.append(replace(key, asked=key.asked or key.kid in plan.ask))
        for algorithm, state in plan.create:
            after.append(replace(generate_key(algorithm, state, now), asked=asked and state is KeyState.NEXT))
        _save(self._folder, after, revoked)
        self._keys, self._revoked = tuple(after), revoked


def _load(path: Path) -> tuple[list[SigningKey], list[RevokedKey]]:
    data = read_private_file(path, _MAX_FILE_BYTES + 1)
    if data is None:
        return [], []
    try:
        return _parse(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UnsupportedAlgorithm):
        # The cause may quote key material, so it is not chained.
        raise damaged(path, "new keys are made and old tokens stop verifying") from None


def _parse(data: bytes) -> tuple[list[SigningKey], list[RevokedKey]]:
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError("too large")
    document = json.loads(data)
    if document["version"] != _VERSION:
        raise ValueError("unknown version")
    keys = []
    for entry in document["keys"]:
        private = serialization.load_pem_private_key(entry["private_key"].encode("ascii"), password=None)
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise TypeError("unknown key type")
        jwk = public_jwk(private.public_key())
        if (jwk["kid"], jwk["alg"]) != (entry["kid"], entry["algorithm"]):
            raise ValueError("a key is not the one its entry names")
        state, asked = KeyState(entry["state"]), entry.get("asked") is True
        keys.append(SigningKey(jwk["kid"], jwk["alg"], state, _since(entry), private, jwk, asked))
    # Files of before a key could be withdrawn have no such list.
    revoked = [
        RevokedKey(str(entry["kid"]), str(entry["algorithm"]), _since(entry)) for entry in document.get("revoked", [])
    ]
    if {key.kid for key in keys} & {key.kid for key in revoked}:
        raise ValueError("a key is there and withdrawn")
    return keys, revoked[-_MOST_REVOKED:]


def _since(entry: Mapping[str, Any]) -> float:
    since = float(entry["since"])
    if not math.isfinite(since):
        raise ValueError("a time that no clock shows")
    return since


def _save(folder: Path, keys: Sequence[SigningKey], revoked: Sequence[RevokedKey]) -> None:
    entries = [
        {
            "kid": key.kid,
            "algorithm": key.algorithm,
            "state": key.state.value,
            "since": key.since,
            "private_key": key.private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode("ascii"),
            **({"asked": True} if key.asked else {}),
        }
        for key in keys
    ]
    document: dict[str, object] = {"version": _VERSION, "keys": entries}
    if revoked:
        document["revoked"] = [{"kid": key.kid, "algorithm": key.algorithm, "since": key.since} for key in revoked]
    write_private_file(folder / _FILE, json.dumps(document, indent=1).encode())
