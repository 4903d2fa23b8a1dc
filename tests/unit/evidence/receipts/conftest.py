"""Makes the job of these tests importable, and gives a key to sign with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.evidence.signing_key import EvidenceKey, generate_evidence_key

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def key() -> EvidenceKey:
    return generate_evidence_key()
