"""What the control plane swears to of a document that a job reported about an artifact: who reported it, and when.

The predicate stands as the job gave it, so that everybody's tools read it as what it is. Who gave it stands beside it,
in the annotations of the statement's subjects: that is all we vouch for, never what the document says.

Source: in-toto Statement v1 and ResourceDescriptor v1 (`annotations`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from orchestrator.evidence.attestations.making import REPORTER
from orchestrator.evidence.provenance import STATEMENT_TYPE, Builder, timestamp
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

CYCLONEDX: Final = "https://cyclonedx.org/bom"
SPDX: Final = "https://spdx.dev/Document"
VULNERABILITIES: Final = "https://cosign.sigstore.dev/attestation/vuln/v1"
SCANS: Final = frozenset({VULNERABILITIES, *(f"https://in-toto.io/attestation/vulns/v0.{n}" for n in (1, 2))})
"""Predicate types of scanners' reports."""
_OTHERS: Final = ("https://in-toto.io/attestation/test-result/v0.1", "https://cosign.sigstore.dev/attestation/v1")
REPORTABLE: Final = frozenset({CYCLONEDX, SPDX, *SCANS, *_OTHERS})
"""Predicate types of documents that a job may report. No other: under our signature its word could pass for ours."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """A job, as we know it. `builder` is the builder id of its kind of runner, `reported_at` RFC 3339."""

    job: str
    builder: str
    caller: str
    caller_issuer: str
    pool: str
    trust_tier: str
    reported_at: str

    @classmethod
    def of(cls, record: Record, pool: Pool, builder: Builder, reported_ns: int) -> Reporter:
        caller = record.offer.caller
        return cls(
            job=record.id,
            builder=builder.id_for(pool),
            caller=caller.id,
            caller_issuer=caller.issuer,
            pool=pool.name,
            trust_tier=pool.trust_tier.value,
            reported_at=timestamp(reported_ns),
        )

    def annotation(self) -> dict[str, str]:
        """As it stands in a statement."""
        return asdict(self)


def reported_statement(
    subjects: Sequence[tuple[str, str]], predicate_type: str, predicate: bytes, reporter: Reporter
) -> bytes:
    """The bytes to sign: a statement about `subjects`, (name, `sha256:<hex>`) each.

    `predicate` is the document, a JSON object that was checked when it came; its bytes are taken over as they are.
    """
    annotations = {REPORTER: reporter.annotation()}
    subject = [
        {"annotations": annotations, "digest": {"sha256": digest.removeprefix("sha256:")}, "name": name}
        for name, digest in subjects
    ]
    rest: dict[str, Any] = {"predicateType": predicate_type, "subject": subject}
    tail = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    return b'{"_type":"%b","predicate":%b,%b' % (STATEMENT_TYPE.encode(), predicate, tail[1:])
