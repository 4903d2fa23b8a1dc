"""Verification outside the daemon, with keys that somebody names: what is this artifact, from which source, by which
system, under which policy. Pure.

Who runs this has no settings that say which builder counts: every builder of a key is told, and one is demanded by its
exact id. Level 0 is what a builder is worth that nobody demanded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from orchestrator.evidence.attestations.facts import ArtifactFacts, judge
from orchestrator.evidence.attestations.keys import PublicKey
from orchestrator.evidence.attestations.signers import CONTROL_PLANE, Claim, Reporters, Signer, Signers
from orchestrator.evidence.attestations.summaries import PASSED

SUMMARY: Final = "summary"
KINDS: Final = (*(claim.value for claim in Claim), SUMMARY)
"""What can be demanded: each is a fact of its own, and none stands for another."""
DEFAULT_KINDS: Final = (Claim.SIGNATURE.value, Claim.SBOM.value, Claim.PROVENANCE.value)

_Value = TypeVar("_Value")


class _Everything(frozenset[str]):
    """Holds whatever one looks for in it."""

    def __contains__(self, _wanted: object) -> bool:
        return True


class _Every(Mapping[str, _Value]):
    """The same for every name."""

    def __init__(self, value: _Value) -> None:
        self._value = value

    def __getitem__(self, _name: str) -> _Value:
        return self._value

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class _Levels(_Every[int]):
    """Builders that were named are worth what was said, all others nothing."""

    def __init__(self, named: Mapping[str, int]) -> None:
        super().__init__(0)
        self._named = named

    def __getitem__(self, name: str) -> int:
        return self._named.get(name, 0)


@dataclass(frozen=True, slots=True)
class Demands:
    """What has to hold besides the signatures. Texts are exact, and empty demand nothing; `builders` are exact ids with
    the level each is worth, and one of them must be the builder where there are any."""

    kinds: Sequence[str] = DEFAULT_KINDS
    builders: Mapping[str, int] = field(default_factory=dict)
    level: int = 0
    source: str = ""
    commit: str = ""
    scanner: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """`missing` says in words what was demanded and does not hold; empty means verified. `answers` has `what`,
    `source`, `system` and `policy`, each with whatever is known."""

    digest: str
    answers: Mapping[str, Mapping[str, Any]]
    missing: Sequence[str]
    facts: Mapping[str, Any]
    summaries: Sequence[Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "verified": not self.missing,
            "missing": list(self.missing),
            **{name: dict(answer) for name, answer in self.answers.items()},
            "summaries": [dict(one) for one in self.summaries],
            "facts": dict(self.facts),
        }


def signers_of_keys(
    daemon: Sequence[PublicKey], others: Mapping[str, Sequence[PublicKey]], builders: Mapping[str, int]
) -> Signers:
    """Signers for somebody who names keys: `daemon` are evidence keys of an orchestrator, `others` those of signers by
    name. Each may say everything, for every builder and scanner.

    Raises:
        ConfigurationError: a key was named twice, or there are too many.
    """
    levels = _Levels(builders)
    listed = [
        Signer(name, tuple(keys), frozenset(Claim), levels, _Everything())
        for name, keys in {CONTROL_PLANE: daemon, **others}.items()
        if keys
    ]
    return Signers(listed, scanners=_Every(Reporters(_Everything())))


def verify(digest: str, attestations: Sequence[str], signers: Signers, demands: Demands, now_ns: int) -> Verification:
    """Judge `attestations` (envelopes and bundles, JSON text) about `digest` (`sha256:<hex>`)."""
    judged = judge(digest, attestations, signers, now_ns)
    facts = judged.facts()
    builds = [one for one in facts["provenances"] if _fits(one, demands)]
    summaries = [one for one in _summaries(judged) if _about(one, demands)]
    build = builds[0] if builds else {}
    return Verification(
        digest=digest,
        answers=_answers(judged, build, summaries),
        missing=tuple(_missing(facts, builds, summaries, demands)),
        facts=facts,
        summaries=summaries,
    )


def _fits(build: Mapping[str, Any], demands: Demands) -> bool:
    return (
        (not demands.builders or build["builder"] in demands.builders)
        and build["level"] >= demands.level
        and demands.source in ("", build["repository"])
        and demands.commit in ("", build["commit"])
    )


def _about(summary: Mapping[str, Any], demands: Demands) -> bool:
    return bool(summary["result"] == PASSED) and demands.environment in ("", summary["environment"])


def _missing(
    facts: Mapping[str, Any],
    builds: Sequence[Mapping[str, Any]],
    summaries: Sequence[Mapping[str, Any]],
    demands: Demands,
) -> Iterator[str]:
    scans = [one for one in facts["scans"] if demands.scanner in ("", one["scanner"])]
    kinds = dict.fromkeys(demands.kinds)
    if demands.builders or demands.level or demands.source or demands.commit:
        kinds[Claim.PROVENANCE.value] = None
    if demands.scanner:
        kinds[Claim.SCAN.value] = None
    if demands.environment:
        kinds[SUMMARY] = None
    found = {
        Claim.SIGNATURE.value: bool(facts["signed"]),
        Claim.SBOM.value: bool(facts["sbom"]),
        Claim.PROVENANCE.value: bool(builds),
        Claim.SCAN.value: bool(scans),
        SUMMARY: bool(summaries),
    }
    for kind in kinds:
        if not found[kind]:
            yield f"no {kind} of this digest{_as_demanded(kind, demands)} is signed by a key that was named"


def _as_demanded(kind: str, demands: Demands) -> str:
    said = {
        Claim.PROVENANCE.value: [
            f"by the builder {' or '.join(demands.builders)}" if demands.builders else "",
            f"of level {demands.level} or more" if demands.level else "",
            f"from {demands.source}" if demands.source else "",
            f"at commit {demands.commit}" if demands.commit else "",
        ],
        Claim.SCAN.value: [f"by {demands.scanner}" if demands.scanner else ""],
        SUMMARY: [f"for {demands.environment}" if demands.environment else ""],
    }.get(kind, [])
    words = " ".join(word for word in said if word)
    return f" {words}" if words else ""


def _answers(
    judged: ArtifactFacts, build: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    ours = judged.built if build.get("signer") == CONTROL_PLANE else {}
    latest = summaries[-1] if summaries else {}
    return {
        "what": _known(digest=judged.digest, name=ours.get("name"), finished_at=build.get("finished_at")),
        "source": _known(repository=build.get("repository"), commit=build.get("commit"), ref=ours.get("ref")),
        "system": _known(
            builder=build.get("builder"),
            signer=build.get("signer"),
            level=build.get("level") or None,
            job=build.get("job") or build.get("invocation"),
            base=ours.get("base"),
            caller=ours.get("caller"),
        ),
        "policy": _known(
            admitted_under=ours.get("policy_bundle"),
            decision=ours.get("decision"),
            deployed_under=latest.get("policy"),
            deployed_to=latest.get("environment"),
            deployment_decision=latest.get("decision"),
            waivers=latest.get("waivers"),
        ),
    }


def _known(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value}


def _summaries(judged: ArtifactFacts) -> list[Mapping[str, Any]]:
    """Verification summaries that the daemon signed about this artifact, oldest first."""
    found = [one.summary for one in judged.attestations if one.summary is not None]
    return sorted(found, key=lambda one: str(one["verified_at"]))
