"""A claim's proof, with times by our own clock."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.model.egress import EgressProof
from orchestrator.server.runner.claiming import proof_of
from orchestrator.server.schemas import ClaimRequest

NOW = 1_790_000_000_000_000_000
PROOF = {"denied": ["a"], "reached": []}


def claimed(ago: object) -> EgressProof:
    return proof_of(ClaimRequest.model_validate({"proof": PROOF, "ago": ago}), lambda: NOW)


def times(proof: EgressProof) -> tuple[int, int, int]:
    return proof.agent_began_ns, proof.began_ns, proof.ended_ns


def test_how_long_ago_becomes_when() -> None:
    proof = claimed({"began": 3, "proving": 2.5, "proven": 0.25})
    assert times(proof) == (NOW - 3_000_000_000, NOW - 2_500_000_000, NOW - 250_000_000)
    assert proof == EgressProof(("a",), ())  # proofs are equal when they saw the same


def test_what_an_agent_does_not_say_is_not_known() -> None:
    assert times(claimed({"proving": 2, "proven": 1})) == (0, NOW - 2_000_000_000, NOW - 1_000_000_000)
    assert times(claimed(None)) == (0, 0, 0)
    assert times(proof_of(ClaimRequest.model_validate({"proof": PROOF}))) == (0, 0, 0)


@pytest.mark.parametrize(
    "ago", [{"proving": -1, "proven": 0}, {"proving": 1}, {"proving": "soon", "proven": 0}, {"x": 1}]
)
def test_impossible_times_are_refused(ago: object) -> None:
    with pytest.raises(ValidationError):
        claimed(ago)
