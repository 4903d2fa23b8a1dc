"""Provenance of builds: by whom, how, from which source. Ours is read more closely, since we know what it must say.

Sources: SLSA Provenance v1 and v0.2; SLSA "verifying artifacts" (a builder counts with the key that may speak for it,
and unknown external parameters are refused).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.evidence.attestations.documents import (
    Entry,
    optional_list,
    optional_table,
    optional_text,
    optional_time,
    refused,
    table,
    text,
)
from orchestrator.evidence.attestations.reading import Statement
from orchestrator.evidence.attestations.signers import Signer
from orchestrator.evidence.provenance import PREDICATE_TYPE

CYCLONEDX: Final = "application/vnd.cyclonedx+json"
"""Media type of an artifact that is a bill of materials."""
V02_TYPE: Final = "https://slsa.dev/provenance/v0.2"
TYPES: Final = frozenset((PREDICATE_TYPE, V02_TYPE))

_MALFORMED: Final = "provenance_malformed"
_MOST_NAMES: Final = 64
_MAX_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class _Build:
    """What both versions say, under one name each."""

    builder: str
    build_type: str
    finished: object
    invocation: str
    parameters: frozenset[str]
    repository: str
    commit: str


def read_provenance(predicate_type: str, predicate: Mapping[str, Any], signer: Signer, now_ns: int) -> Entry:
    """{builder, build_type, level, repository, commit, invocation, finished_at, parameters, caches, egress_refused}.

    `caches` (list of text) and `egress_refused` (count) are None where the builder does not tell, which is not the same
    as none.

    Raises:
        AttestationRefusedError: reason `provenance_malformed`, `builder_unknown`, `external_parameter_unknown`,
            `time_in_the_future`.
    """
    build = _read_v1(predicate) if predicate_type == PREDICATE_TYPE else _read_v02(predicate)
    level = signer.builders.get(build.builder)
    if level is None:
        raise refused("the signer may not speak for this builder", "builder_unknown")
    if signer.parameters is not None and not build.parameters <= signer.parameters:
        raise refused("the build had a parameter that nobody expects", "external_parameter_unknown")
    internal = optional_table(optional_table(predicate.get("buildDefinition")).get("internalParameters"))
    ours = signer.is_control_plane
    return {
        "builder": build.builder,
        "build_type": build.build_type,
        "level": level,
        "repository": build.repository,
        "commit": build.commit,
        "invocation": build.invocation,
        "finished_at": optional_time(build.finished, now_ns),
        "parameters": sorted(name[:_MAX_NAME] for name in build.parameters)[:_MOST_NAMES],
        "caches": _caches(internal) if ours else None,
        "egress_refused": _egress_refused(internal) if ours else None,
    }


def _read_v1(predicate: Mapping[str, Any]) -> _Build:
    definition = table(predicate.get("buildDefinition"), _MALFORMED)
    run = table(predicate.get("runDetails"), _MALFORMED)
    metadata = optional_table(run.get("metadata"))
    parameters = table(definition.get("externalParameters"), _MALFORMED)
    repository, commit = _source(optional_list(definition.get("resolvedDependencies")))
    workflow = optional_table(parameters.get("workflow"))
    ours = optional_table(parameters.get("source"))
    return _Build(
        builder=text(table(run.get("builder"), _MALFORMED).get("id"), _MALFORMED),
        build_type=text(definition.get("buildType"), _MALFORMED),
        finished=metadata.get("finishedOn"),
        invocation=optional_text(metadata.get("invocationId")),
        parameters=frozenset(parameters),
        repository=optional_text(ours.get("repository")) or repository or optional_text(workflow.get("repository")),
        commit=optional_text(ours.get("sha")) or commit,
    )


def _read_v02(predicate: Mapping[str, Any]) -> _Build:
    invocation = optional_table(predicate.get("invocation"))
    metadata = optional_table(predicate.get("metadata"))
    origin = optional_table(invocation.get("configSource"))
    repository, commit = _source([origin, *optional_list(predicate.get("materials"))])
    return _Build(
        builder=text(table(predicate.get("builder"), _MALFORMED).get("id"), _MALFORMED),
        build_type=text(predicate.get("buildType"), _MALFORMED),
        finished=metadata.get("buildFinishedOn"),
        invocation=optional_text(metadata.get("buildInvocationId")),
        parameters=frozenset(optional_table(invocation.get("parameters"))),
        repository=repository,
        commit=commit,
    )


def _source(dependencies: list[Any]) -> tuple[str, str]:
    """Repository (as written, without `git+` and revision) and commit of the first dependency that is a git commit."""
    for dependency in dependencies:
        told = optional_table(dependency)
        digest = optional_table(told.get("digest"))
        commit = digest.get("gitCommit") or digest.get("sha1")
        if isinstance(commit, str) and commit:
            return _bare(optional_text(told.get("uri"))), optional_text(commit)
    return "", ""


def _bare(uri: str) -> str:
    """An SPDX download location without `git+`, revision, and whatever stands for a user: it may be a password."""
    scheme, slashes, rest = uri.removeprefix("git+").partition("://")
    host, slash, path = rest.partition("/")
    return scheme + slashes + host.rpartition("@")[2] + slash + path.partition("@")[0]


def _caches(internal: Mapping[str, Any]) -> list[str] | None:
    caches = internal.get("caches")
    return [str(cache)[:_MAX_NAME] for cache in caches[:_MOST_NAMES]] if isinstance(caches, list) else None


def _egress_refused(internal: Mapping[str, Any]) -> int | None:
    counts = optional_table(internal.get("egress")).get("refused")
    if not isinstance(counts, dict) or not all(type(count) is int for count in counts.values()):
        return None
    return sum(counts.values())


def read_our_own(statement: Statement, digest: str) -> Mapping[str, str]:
    """How a job of this orchestrator built the artifact, in text only: `artifact.built` of policy's input.

    Raises:
        AttestationRefusedError: reason `provenance_malformed`, `builder_contradicted`.
    """
    try:
        told = _told(statement, digest)
    except (KeyError, TypeError, AttributeError):
        raise refused("not as our provenance is", _MALFORMED) from None
    if not all(isinstance(value, str) for value in told.values()):
        raise refused("not as our provenance is", _MALFORMED)
    return told


def _told(statement: Statement, digest: str) -> dict[str, Any]:
    predicate = statement.predicate
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    source, pool, builder = external["source"], internal["pool"], run["builder"]["id"]
    # The id is what the key may speak for; what the statement says besides must be that very builder's.
    kind = f"/{pool['backend']}/{pool['isolation']}/{pool['trust_tier']}"
    if not builder.endswith((f"{kind}/v1", f"{kind}/waived/v1")):
        raise refused("another pool than the builder's", "builder_contradicted")
    mine = statement.about(digest)
    return {
        "builder": builder,
        "build_type": definition["buildType"],
        "job": run["metadata"]["invocationId"],
        "job_name": external["job"],
        "finished_on": run["metadata"]["finishedOn"],
        "name": mine["name"] if mine is not None else "",
        "base": pool["base"],
        "isolation": pool["isolation"],
        "trust_tier": pool["trust_tier"],
        "caller": external["caller"]["id"],
        "caller_issuer": external["caller"]["issuer"],
        "policy_bundle": internal["policy"].get("bundle", ""),
        "decision": internal["policy"].get("decision", ""),
        **{name: source[name] for name in ("repository", "repository_id", "ref", "sha") if name in source},
    }


def lists_an_sbom(statement: Statement, digest: str) -> bool:
    """Whether the same job reported a CycloneDX document as an artifact of its own, beside this one."""
    wanted = digest.removeprefix("sha256:")
    return any(
        subject.get("mediaType") == CYCLONEDX and subject["digest"].get("sha256") not in (wanted, None)
        for subject in statement.subjects
    )
