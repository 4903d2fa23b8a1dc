"""One grant of a document, read strictly, with the conditions that it implies and what it must pin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.errors import GiveUpError
from orchestrator.identity.claims import FACT_NAME, session_tags
from orchestrator.identity.trust.conditions import MAX_ONE_OF, MAX_VALUE_CHARS, Comparison, Condition
from orchestrator.identity.trust.document import GrantRule, Tag, Target
from orchestrator.identity.trust.globs import MAX_PATTERN_CHARS, Glob, GlobError
from orchestrator.identity.trust.kinds import KINDS, Kind
from orchestrator.identity.trust.strict import Place, mapping, named, number, text, texts
from orchestrator.model.pool import TrustTier

NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""Names of grants, targets and issuers."""

TRUSTED_TIERS: Final = frozenset(tier.value for tier in TrustTier if tier is not TrustTier.UNTRUSTED)
"""Pools of the tier *untrusted* are never granted anything."""

_MAX_CONDITIONS: Final = 20
_MAX_ROLES: Final = 50
_MAX_TAGS: Final = 50
_MAX_PERMISSIONS: Final = 50
_PERMISSION: Final = re.compile(r"[a-z][a-z_]{0,63}")
_LEVEL: Final = re.compile(r"read|write|admin")
_REPOSITORY_ID: Final = re.compile(r"[1-9][0-9]{0,19}")
_TAG_KEY: Final = re.compile(r".{1,128}")


def grant_rule(entry: object, environment: str, issuer: str, targets: Mapping[str, Target], place: Place) -> GrantRule:
    """The grant that this entry is.

    Raises:
        ConfigurationError: `trust_map_invalid`.
    """
    given = mapping(
        entry,
        place,
        required=("name", "when", "target"),
        optional=("roles", "max_ttl_seconds", "session_tags", "transitive", "permissions", "repository_id"),
    )
    name = text(given["name"], place.at("name"), NAME)
    place = Place(place.file, (*place.path[:-1], name))
    target = targets.get(text(given["target"], place.at("target")))
    if target is None:
        raise place.at("target").wrong(f"names no target: {given['target']!r}", f"targets are {', '.join(targets)}")
    kind = KINDS[target.kind]
    conditions = _conditions(given["when"], place.at("when"))
    tags = _tags(given, kind, target.kind, place)
    return GrantRule(
        name=name,
        environment=environment,
        issuer=issuer,
        conditions=(*conditions, *_implied(conditions, tags, place)),
        target=target,
        roles=_roles(given, kind, target.kind, place),
        max_ttl_seconds=_ttl(given, kind, target, place),
        session_tags=tags,
        transitive=_transitive(given, tags, place.at("transitive")),
        permissions=_permissions(given, kind, target.kind, place),
        repository_id=_repository_id(given, kind, target.kind, conditions, place),
    )


def _conditions(value: object, place: Place) -> tuple[Condition, ...]:
    given = named(value, place, FACT_NAME, _MAX_CONDITIONS)
    return tuple(_condition(claim, entry, place.at(claim)) for claim, entry in given.items())


def _condition(claim: str, entry: object, place: Place) -> Condition:
    given = mapping(entry, place, optional=("equals", "one_of", "matches"))
    if len(given) != 1:
        raise place.wrong(f"has {len(given)} conditions", "give exactly one of equals, one_of, matches")
    ((word, value),) = given.items()
    inner = place.at(word)
    match Comparison(word):
        case Comparison.EQUALS:
            return Condition(claim, Comparison.EQUALS, frozenset({text(value, inner, limit=MAX_VALUE_CHARS)}))
        case Comparison.ONE_OF:
            values = texts(value, inner, high=MAX_ONE_OF, limit=MAX_VALUE_CHARS)
            return Condition(claim, Comparison.ONE_OF, frozenset(values))
        case _:
            return Condition(claim, Comparison.MATCHES, glob=_glob(value, inner))


def _glob(value: object, place: Place) -> Glob:
    pattern = text(value, place, limit=MAX_PATTERN_CHARS)
    try:
        return Glob(pattern)
    except GlobError as error:
        raise place.wrong(f"is {pattern!r}", f"the pattern {error}") from None


def _implied(conditions: tuple[Condition, ...], tags: Mapping[str, Tag], place: Place) -> list[Condition]:
    """What no author has to write: never the untrusted tier; and a tag's claim is there, and fit for a tag."""
    given = {one.claim: one for one in conditions}
    implied = []
    if "trust_tier" not in given:
        implied.append(Condition("trust_tier", Comparison.ONE_OF, TRUSTED_TIERS, implied=True))
    for claim in dict.fromkeys(tag.claim for tag in tags.values() if tag.claim):
        taggable = Condition(claim, Comparison.TAGGABLE, implied=True)
        written = given.get(claim)
        if written is None or not written.exact:
            implied.append(taggable)
            continue
        for value in sorted(written.values):
            if not taggable.allows(value):
                raise place.at("session_tags").wrong(
                    f"takes the claim {claim}, which may be {value!r}",
                    "AWS tags hold up to 256 letters, digits, spaces and _.:/=+-@; leave the tag out",
                )
    return implied


def _roles(given: Mapping[str, Any], kind: Kind, kind_name: str, place: Place) -> tuple[str, ...]:
    if "roles" not in given:
        return ()
    place = place.at("roles")
    if kind.roles is None:
        raise place.wrong(f"is given, but a target of kind {kind_name} knows no roles", "remove it")
    roles = texts(given["roles"], place, high=_MAX_ROLES)
    for role in roles:
        if not kind.roles.pattern.fullmatch(role):
            raise place.wrong(f"has {role!r}, which is no role of {kind_name}", f"write it as {kind.roles.example}")
    return roles


def _ttl(given: Mapping[str, Any], kind: Kind, target: Target, place: Place) -> int:
    if kind.permissions:
        if "max_ttl_seconds" in given:
            raise place.at("max_ttl_seconds").wrong(
                "is given, but GitHub decides the life of its tokens (1 h); they are revoked when the job ends",
                "remove it",
            )
        return kind.longest_session
    if "max_ttl_seconds" not in given:
        raise place.wrong("lacks max_ttl_seconds", "say how long a token lives at most, in seconds; 300 is plenty")
    return number(given["max_ttl_seconds"], place.at("max_ttl_seconds"), 1, target.max_ttl_seconds)


def _tags(given: Mapping[str, Any], kind: Kind, kind_name: str, place: Place) -> dict[str, Tag]:
    if "session_tags" not in given:
        return {}
    place = place.at("session_tags")
    if not kind.tags:
        raise place.wrong(f"is given, but a target of kind {kind_name} reads no session tags", "remove it")
    tags = {}
    for key, entry in named(given["session_tags"], place, _TAG_KEY, _MAX_TAGS).items():
        inner = mapping(entry, place.at(key), optional=("claim", "value"))
        if len(inner) != 1:
            raise place.at(key).wrong(f"has {len(inner)} sources", "give exactly one of claim, value")
        ((word, value),) = inner.items()
        read = text(value, place.at(key, word), FACT_NAME if word == "claim" else None)
        tags[key] = Tag(claim=read) if word == "claim" else Tag(value=read)
    try:
        session_tags({key: tag.value for key, tag in tags.items()})
    except GiveUpError as error:
        raise place.wrong(f"is not what AWS accepts: {error}", "correct the tags' keys and values") from None
    return tags


def _transitive(given: Mapping[str, Any], tags: Mapping[str, Tag], place: Place) -> tuple[str, ...]:
    if "transitive" not in given:
        return ()
    keys = texts(given["transitive"], place, high=_MAX_TAGS)
    for key in keys:
        if key not in tags:
            raise place.wrong(f"names {key!r}, which is no session tag of this grant", "name keys of session_tags")
    return keys


def _permissions(given: Mapping[str, Any], kind: Kind, kind_name: str, place: Place) -> dict[str, str]:
    if not kind.permissions:
        if "permissions" in given:
            raise place.at("permissions").wrong(f"is given, but a target of kind {kind_name} knows none", "remove it")
        return {}
    if "permissions" not in given:
        raise place.wrong("lacks permissions", "list what the installation token may do, such as contents: read")
    place = place.at("permissions")
    entries = named(given["permissions"], place, _PERMISSION, _MAX_PERMISSIONS)
    return {name: text(level, place.at(name), _LEVEL) for name, level in entries.items()}


def _repository_id(
    given: Mapping[str, Any], kind: Kind, kind_name: str, conditions: tuple[Condition, ...], place: Place
) -> str:
    """The one repository an installation token is for: a written one, or the job's own, which then has to be pinned."""
    if "repository_id" in given:
        if not kind.permissions:
            raise place.at("repository_id").wrong(
                f"is given, but a target of kind {kind_name} has no repository", "remove it"
            )
        return text(given["repository_id"], place.at("repository_id"), _REPOSITORY_ID)
    if kind.permissions and not any(one.claim == "repository_id" and one.exact for one in conditions):
        raise place.wrong(
            "says no repository: neither repository_id, nor a pinned one of the job's own",
            "pin repository_id under when, or write the repository's id",
        )
    return ""
