"""Guards as rendered against guards as found: what is missing, what was changed. Pure.

What the API server adds by itself is no drift; anything else that could weaken a guard is. What could not be
read counts as missing: nobody can say that it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.backends.kubernetes.guards import GUARDS, Document, Finding, Severity, mend
from orchestrator.backends.kubernetes.render.quantity import value

Difference = tuple[str, Severity]

NetworkCheck = Callable[[Sequence[Document], Sequence[Document]], Sequence[Difference]]
"""Compares rendered and found NetworkPolicies of one namespace by what they mean."""

_DEFAULTS: Mapping[str, Any] = {
    "matchPolicy": "Equivalent",
    "namespaceSelector": {},
    "objectSelector": {},
    "scope": "*",
    "globalDefault": False,
}
"""Fields that the API server fills in: with these values they change nothing."""

_ENFORCING = ("pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version")


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there is nothing to compare: it does not exist, or it could not be read."""

    why: str


Found = Mapping[tuple[str, str], Document | Absent]
"""By kind and name; NetworkPolicies are apart, since those that nobody rendered count too."""


def drift(
    pool: str,
    documents: Sequence[Document],
    found: Found,
    policies: Sequence[Document] | Absent,
    check: NetworkCheck,
    config_file: str = "FILE",
) -> list[Finding]:
    """Every difference that matters between `documents`, which should be there, and what is."""
    findings: list[Finding] = []
    told: set[tuple[str, str]] = set()

    def tell(kind: str, what: str, severity: Severity) -> None:
        guard = GUARDS[kind]
        if (guard.name, what) not in told:
            told.add((guard.name, what))
            findings.append(
                Finding(guard.name, pool, what, guard.protects_from, mend(guard, pool, config_file), severity)
            )

    rendered = [one for one in documents if one["kind"] == "NetworkPolicy"]
    for want in documents:
        kind, name = want["kind"], want["metadata"]["name"]
        if kind == "NetworkPolicy":
            continue
        got = found.get((kind, name), Absent("was not looked at"))
        if isinstance(got, Absent):
            tell(kind, f"{kind} {name} {got.why}", Severity.MISSING)
            continue
        if got.get("metadata", {}).get("deletionTimestamp"):
            tell(kind, f"{kind} {name} is being deleted", Severity.MISSING)
        for what, severity in _differences(kind, want, got):
            tell(kind, f"{kind} {name}: {what}", severity)
    for what, severity in _network(rendered, policies, check):
        tell("NetworkPolicy", what, severity)
    return findings


def _network(
    rendered: Sequence[Document], policies: Sequence[Document] | Absent, check: NetworkCheck
) -> Sequence[Difference]:
    if isinstance(policies, Absent):
        return [(f"the namespace's NetworkPolicies {policies.why}", Severity.MISSING)]
    if _specs(rendered) == _specs(policies):
        return []
    return check(rendered, policies)


def _specs(policies: Sequence[Document]) -> list[str]:
    return sorted(repr(_ordered(one.get("spec") or {})) for one in policies)


def _ordered(value_: Any) -> Any:
    """The same for equal JSON, whatever the order of its keys."""
    if isinstance(value_, Mapping):
        return sorted((key, _ordered(inner)) for key, inner in value_.items())
    if isinstance(value_, list):
        return [_ordered(inner) for inner in value_]
    return value_


def _differences(kind: str, want: Document, got: Document) -> Iterator[Difference]:
    match kind:
        case "Namespace":
            yield from _labels(want, got)
        case "ServiceAccount":
            if got.get("automountServiceAccountToken") is not False:
                yield "automountServiceAccountToken is not false", Severity.MISSING
        case "ResourceQuota":
            yield from _quota(want["spec"], got.get("spec") or {})
        case "LimitRange":
            if _amounts(want["spec"]) != _amounts(got.get("spec") or {}):
                yield "spec.limits are not as rendered", Severity.MISSING
        case "PriorityClass":
            yield from _priority(want, got)
        case "RuntimeClass":
            pass
        case _:
            spec, other = _plain(want["spec"]), _plain(got.get("spec") or {})
            for key in sorted(spec.keys() | other.keys()):
                if spec.get(key) != other.get(key):
                    yield f"spec.{key} is not as rendered", Severity.MISSING


def _labels(want: Document, got: Document) -> Iterator[Difference]:
    present = got.get("metadata", {}).get("labels") or {}
    for key, wanted in want["metadata"]["labels"].items():
        if present.get(key) != wanted:
            severity = Severity.MISSING if key in _ENFORCING else Severity.WARNING
            yield f"label {key} is {present.get(key, 'absent')!s} and should be {wanted}", severity


def _quota(want: Document, got: Document) -> Iterator[Difference]:
    if got.get("scopes") or got.get("scopeSelector"):
        yield "it holds for some pods only", Severity.MISSING
    hard = got.get("hard") or {}
    for key, limit in want["hard"].items():
        if key not in hard:
            yield f"hard.{key} is absent and should be {limit}", Severity.MISSING
            continue
        is_, should = value(hard[key]), value(limit)
        if is_ is None or is_ != should:
            narrower = is_ is not None and should is not None and is_ < should
            severity = Severity.WARNING if narrower else Severity.MISSING
            yield f"hard.{key} is {hard[key]} and should be {limit}", severity


def _priority(want: Document, got: Document) -> Iterator[Difference]:
    if got.get("preemptionPolicy", "PreemptLowerPriority") != want["preemptionPolicy"]:
        yield "preemptionPolicy is not Never", Severity.MISSING
    if "value" in want and got.get("value") != want["value"]:
        yield f"value is {got.get('value')} and should be {want['value']}", Severity.MISSING
    if got.get("globalDefault"):
        yield "it is every pod's default", Severity.WARNING


def _amounts(value_: Any) -> Any:
    """With quantities as numbers, and without what says nothing."""
    if isinstance(value_, Mapping):
        return {key: _amounts(inner) for key, inner in value_.items() if inner not in ({}, [], None)}
    if isinstance(value_, list):
        return [_amounts(inner) for inner in value_]
    number = value(value_) if isinstance(value_, str | int) else None
    return value_ if number is None else number


def _plain(value_: Any) -> Any:
    """Without what the API server fills in."""
    if isinstance(value_, Mapping):
        return {
            key: _plain(inner)
            for key, inner in value_.items()
            if inner is not None and not (key in _DEFAULTS and _DEFAULTS[key] == inner)
        }
    if isinstance(value_, list):
        return [_plain(inner) for inner in value_]
    return value_
