"""The page on attestations: every reason why one does not count, and every type that is read."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.evidence.attestations import builds, scan
from orchestrator.evidence.attestations.examine import claim_of
from orchestrator.evidence.attestations.signers import Claim

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/attestations.md").read_text("utf-8")
SOURCES = [
    path.read_text("utf-8")
    for path in sorted((ROOT / "orchestrator/evidence/attestations").glob("*.py"))
    if path.stem != "documenting"  # what that refuses is no attestation
]
OF_SETTINGS = {"signer_key_unusable", "signer_key_shared", "signers_too_many"}
OF_THE_WHOLE = {"digest_malformed", "provenance_missing"}


def written() -> set[str]:
    """Words given as a reason, in each of the ways in which the room gives one."""
    forms = (
        r"reason=\"([a-z_]+)\"",
        r"refused\(\s*f?\"[^\"]*\",\s*\"([a-z_]+)\"",
        r"_MALFORMED: Final = \"([a-z_]+)\"",
        r"decoded\([^)]*\"([a-z_]+)\"\)",
        r"(?:time_of|_object|_decode|optional_time)\([^)]*\"([a-z_]+)\"",
        r"(?:return|else) \"((?:signer|provenance|reporter)_[a-z_]+)\"",
        r"= \"(signature_invalid)\"",
        r"else \"(key_unknown)\"",
        r"return \"\" if [^\n]* else \"([a-z_]+)\"",
    )
    return {word for source in SOURCES for form in forms for word in re.findall(form, source)}


def test_every_reason_has_its_row():
    table = PAGE[PAGE.index("## Why one does not count") :]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    rows = {word for cell in first_cells for word in re.findall(r"`([a-z_]+)`", cell)}
    assert written() - OF_SETTINGS - OF_THE_WHOLE == rows
    assert len(rows) > 25
    assert all(f"`{word}`" in table for word in OF_THE_WHOLE)


def test_every_type_is_named_as_what_it_is():
    for kind in builds.TYPES:
        assert f"`{kind}`" in PAGE
        assert claim_of(kind) is Claim.PROVENANCE
    for kind in scan.TYPES:
        assert claim_of(kind) is Claim.SCAN
    named = {kind for line in PAGE.splitlines() for kind in re.findall(r"`(https://[a-z.]+/[^`]+)`", line)}
    assert {kind for kind in named if claim_of(kind) is None} == set()
    assert {claim_of(kind) for kind in named} == set(Claim)
