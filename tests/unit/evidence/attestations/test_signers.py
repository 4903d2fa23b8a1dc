"""Whose word counts: names of keys, and keys that nobody may share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.attestations.keys import hint_of
from orchestrator.evidence.attestations.signers import MOST_KEYS, Claim, Reporters, Signer, Signers
from orchestrator.evidence.signing_key import generate_evidence_key


def test_a_key_is_known_by_its_id_and_its_hint(signers, outside, outside_key):
    for name in (outside_key.id, outside_key.id.removeprefix("sha256:"), hint_of(outside_key.public)):
        assert signers.named(name) == (outside_key.public, outside)
    assert signers.named("") is None


def test_one_key_has_one_signer(outside):
    with pytest.raises(ConfigurationError) as caught:
        Signers([outside, replace(outside, name="else")])
    assert caught.value.reason == "signer_key_shared"
    assert "'release-team'" in str(caught.value)
    assert "'else'" in str(caught.value)


def test_there_is_an_end_to_keys(outside, outside_key):
    keys = tuple(generate_evidence_key().public for _ in range(MOST_KEYS + 1))
    with pytest.raises(ConfigurationError) as caught:
        Signers([replace(outside, keys=keys)])
    assert caught.value.reason == "signers_too_many"


def test_its_digest_is_of_all_that_decides(ours, outside):
    changed = [
        replace(outside, may=frozenset({Claim.SBOM})),
        replace(outside, builders={"b": 1}),
        replace(outside, scanners=frozenset()),
        replace(outside, parameters=frozenset()),
        replace(outside, not_before_ns=1),
        replace(outside, not_after_ns=1),
        replace(outside, name="renamed"),
        replace(outside, keys=(generate_evidence_key().public,)),
    ]
    everybody = [Signers([ours, one]) for one in [outside, *changed]]
    everybody += [
        Signers([ours, outside], scanners={"trivy": Reporters(frozenset({"p"}))}),
        Signers([ours, outside], sboms=Reporters(frozenset({"p"}))),
        Signers([ours, outside], sboms=Reporters(callers=frozenset({"p"}))),
        Signers([ours]),
    ]
    assert len({one.digest for one in everybody}) == len(everybody)
    assert Signers([ours, outside]).digest == everybody[0].digest


def test_a_signer_may_have_several_keys(outside, proven, signed):
    second = generate_evidence_key()
    both = Signers([replace(outside, keys=(*outside.keys, second.public))])
    kind = "https://sigstore.dev/cosign/sign/v1"
    assert len(proven(signed(kind, {}), signed(kind, {}, key=second), by=both)["signatures"]) == 2


def test_reporters():
    assert Reporters(pools=frozenset({"p"})).include("p", "c")
    assert Reporters(callers=frozenset({"c"})).include("p", "c")
    assert not Reporters().include("", "")


def test_the_control_plane_may_say_everything_for_its_builders(ours):
    assert isinstance(ours, Signer)
    assert [ours.refusal(claim, 0) for claim in Claim] == [""] * 4
