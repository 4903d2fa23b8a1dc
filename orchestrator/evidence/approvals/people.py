"""Who may sign what: the approvers' file. One person is one person, whatever keys and tokens they have.

A file of YAML, kept in git beside the policies. It names people, their keys or OIDC identities, who they are elsewhere,
and what they may sign. `docs/how-to/approve-and-break-glass.md` explains it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import yaml

from orchestrator import strict_yaml
from orchestrator.errors import ConfigurationError
from orchestrator.evidence.approvals.keys import MAX_KEY_FILE_BYTES, PublicKey, read_public_keys
from orchestrator.evidence.approvals.statements import Code, PersonName

EVERYWHERE: Final = "*"
REVIEW_KIND: Final = "review"
"""What lets somebody review exceptions, beside the kinds of objects."""

_MAX_FILE_BYTES: Final = 4 << 20
_MAX_PEOPLE: Final = 1000
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An OIDC subject of an issuer."""

    issuer: _Text
    subject: _Text


class Right(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """May sign these kinds for these environments; `*` is every one."""

    kinds: Annotated[tuple[Code, ...], msgspec.Meta(min_length=1, max_length=32)]
    environments: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=64)]

    def covers(self, kind: str, environment: str) -> bool:
        return kind in self.kinds and (environment in self.environments or EVERYWHERE in self.environments)


class _Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: Annotated[tuple[str, ...], msgspec.Meta(max_length=16)] = ()
    key_files: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=16)] = ()
    identities: Annotated[tuple[Identity, ...], msgspec.Meta(max_length=32)] = ()
    facts: dict[_Text, Annotated[tuple[_Text, ...], msgspec.Meta(max_length=32)]] = {}
    may: Annotated[tuple[Right, ...], msgspec.Meta(max_length=64)] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    people: dict[PersonName, _Person]


@dataclass(frozen=True, slots=True)
class Person:
    """`identities` are (issuer, subject); `facts` are values of facts of jobs that are this person's own, such as
    GitHub's `actor_id`. Somebody who may sign nothing can still ask for an exception."""

    name: str
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    identities: frozenset[tuple[str, str]] = frozenset()
    facts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    may: tuple[Right, ...] = ()

    def may_sign(self, kind: str, environment: str) -> bool:
        return any(right.covers(kind, environment) for right in self.may)

    def subjects(self) -> list[str]:
        """Every name they have elsewhere, sorted: for policy, which knows of authors that we do not."""
        values = {value for one in self.facts.values() for value in one}
        return sorted({self.name, *values, *(subject for _, subject in self.identities)})


class People:
    """All of them. `digest` (`sha256:<hex>`) is of the file and the keys it names; empty without one.

    Raises:
        ConfigurationError: a key or an identity is two people's.
    """

    def __init__(self, people: Iterable[Person] = (), digest: str = "") -> None:
        self.by_name: Mapping[str, Person] = {person.name: person for person in people}
        self.digest = digest
        self.keys: dict[str, PublicKey] = {}
        self._by_key: dict[str, Person] = {}
        self._by_identity: dict[tuple[str, str], Person] = {}
        for person in self.by_name.values():
            for name, key in person.keys.items():
                self._refuse_shared(self._by_key.setdefault(name, person), person, f"the key {name}")
                self.keys[name] = key
            for identity in person.identities:
                owner = self._by_identity.setdefault(identity, person)
                self._refuse_shared(owner, person, f"the identity of issuer {identity[0]}")

    @staticmethod
    def _refuse_shared(owner: Person, person: Person, what: str) -> None:
        if owner is not person:
            raise _unfit(
                f"people.{person.name}: {what} is {owner.name}'s too, and one person may not count as two",
                "merge the two people, or give each of them keys and identities of their own",
            )

    def of_key(self, name: str) -> Person | None:
        return self._by_key.get(name)

    def of_identity(self, issuer: str, subject: str) -> Person | None:
        return self._by_identity.get((issuer, subject))


def read_people(path: Path) -> People:
    """The approvers' file, with every key that it names.

    Raises:
        ConfigurationError: `approvers_invalid`, with the place in the file and what to do.
    """
    content = _read(path, _MAX_FILE_BYTES, path)
    try:
        found = msgspec.convert(strict_yaml.load(content.decode()), type=_File, strict=True)
    except UnicodeDecodeError:
        raise _unfit(f"{path} is not UTF-8 text", "save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise _unfit(f"{path} {strict_yaml.describe(error)}", "correct the YAML") from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise _unfit(f"{path}: {error}", "see docs/how-to/approve-and-break-glass.md for every field") from None
    if len(found.people) > _MAX_PEOPLE:
        raise _unfit(f"{path}: people has {len(found.people)} entries", f"give at most {_MAX_PEOPLE}")
    digest = hashlib.sha256(content)
    people = []
    for name, given in found.people.items():
        keys: dict[str, PublicKey] = {}
        for number, pem in enumerate(given.keys):
            keys |= _keys(pem, f"{path}: people.{name}.keys.{number}")
        for number, file in enumerate(given.key_files):
            pem_bytes = _read(path.parent / file, MAX_KEY_FILE_BYTES, path)
            digest.update(pem_bytes)
            keys |= _keys(pem_bytes.decode("ascii", "replace"), f"{path}: people.{name}.key_files.{number}")
        people.append(_person(name, given, keys))
    return People(people, f"sha256:{digest.hexdigest()}")


def _person(name: str, given: _Person, keys: dict[str, PublicKey]) -> Person:
    identities = frozenset((one.issuer, one.subject) for one in given.identities)
    return Person(name, keys, identities, {fact: frozenset(values) for fact, values in given.facts.items()}, given.may)


def _keys(pem: str, where: str) -> dict[str, PublicKey]:
    keys = read_public_keys(pem)
    if not keys:
        raise _unfit(f"{where} holds no public key in PEM of P-256 or Ed25519", "openssl pkey -in KEY -pubout makes it")
    return keys


def _read(path: Path, limit: int, named_in: Path) -> bytes:
    try:
        if not path.is_file():
            raise _unfit(f"{named_in}: there is no file {path}", "correct the path; it is relative to the file")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise _unfit(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    if len(content) > limit:
        raise _unfit(f"{path} is too large", f"it may have at most {limit} bytes")
    return content


def _unfit(message: str, fix: str) -> ConfigurationError:
    return ConfigurationError(message, reason="approvers_invalid", fix=fix)
