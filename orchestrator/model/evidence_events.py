"""What happened on the way of an artifact into an environment: evidence given, checked and summed up, rules excepted,
secrets handed over. See `events`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArtifactNamed:
    """The job's word about what it deploys, given with its identity while it runs, where its dispatch named nothing.

    `digest` is `sha256:<hex>`. It chooses what policy looks at from here on, and proves nothing; only the first counts.
    """

    digest: str


@dataclass(frozen=True, slots=True)
class ArtifactAttested:
    """The job's claim, made with its identity, about an artifact: a bill of materials, a scanner's report.

    `digest` is the artifact's (`sha256:<hex>`), `predicate_type` a URI, `predicate_digest` (`sha256:<hex>`) that of the
    document, which lies in the evidence store until the control plane has sworn who said it.
    """

    digest: str
    predicate_type: str
    predicate_digest: str
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AttestationSigned:
    """The control plane's statement that this job reported this document about these artifacts. `attestation`
    (`sha256:<hex>`) names the signed envelope in the evidence store."""

    predicate_type: str
    digests: tuple[str, ...]
    attestation: str


@dataclass(frozen=True, slots=True)
class SummarySigned:
    """The gate let an artifact into an environment: a verification summary, recorded before the identity it is bound
    to. `envelope` is DSSE JSON text, `digest` (`sha256:<hex>`) that of the signed statement."""

    envelope: str
    digest: str
    artifact_digest: str
    environment: str
    decision_id: str


@dataclass(frozen=True, slots=True)
class ExceptionUsed:
    """A decision allowed what the rules named in `waived` (codes of reasons) refuse, because a signed exception said
    so. `exception` (`sha256:<hex>`) names it, `kind` is `break_glass` or `override`; `number` counts its uses from 1.
    """

    exception: str
    kind: str
    waived: tuple[str, ...]
    decision_id: str
    approvers: tuple[str, ...] = ()
    number: int = 1


@dataclass(frozen=True, slots=True)
class SecretDelivered:
    """A registered secret went out with the job's work: its name, and `version`, a keyed hash of its value."""

    name: str
    version: str
    age_seconds: int = 0
