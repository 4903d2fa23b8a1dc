"""Facts for the trust map: verified, or our own doing; a caller cannot bring what we say ourselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.identity.claims import MAX_FACTS, job_claims
from orchestrator.identity.trust.facts import OWN_FACTS, trust_facts

DIGEST = "sha256:" + "a" * 64


def with_facts(record, facts):
    return replace(record, offer=replace(record.offer, caller=replace(record.offer.caller, facts=facts)))


def with_spec(record, **changes):
    return replace(record, offer=replace(record.offer, spec=replace(record.offer.spec, **changes)))


def test_facts_of_a_job(record, pool):
    record = with_spec(record, artifact_digest=DIGEST)
    assert trust_facts(record, pool) == {
        **record.offer.caller.facts,
        "source": "dispatch",
        "attempt": "1",
        "pool": "default",
        "trust_tier": "standard",
        "isolation": "bubblewrap",
        "backend": "sandbox",
        "runner_image_digest": "",
        "caller": record.offer.caller.id,
        "caller_issuer": "https://ci.example",
        "environment": "staging",
        "artifact_digest": DIGEST,
    }


@pytest.mark.parametrize("name", sorted(OWN_FACTS))
def test_a_caller_cannot_bring_what_we_say(record, pool, name):
    honest = trust_facts(record, pool)
    lying = with_facts(record, {**record.offer.caller.facts, name: "protected"})
    assert trust_facts(lying, pool) == honest
    assert "protected" not in job_claims(lying, pool, decision_id="d").values()


def test_own_facts_are_all_named(record, pool):
    assert trust_facts(with_facts(record, {}), pool).keys() == OWN_FACTS


@pytest.mark.parametrize("name", ["sub", "aud", "exp", "scope", "groups", "job_id", "Ref", "a-b", "x" * 65, ""])
def test_names_that_no_token_of_ours_carries_are_no_facts(record, pool, name):
    assert name not in trust_facts(with_facts(record, {name: "x"}), pool)


def test_a_stage_of_the_source_is_a_fact(record, pool):
    assert trust_facts(with_facts(record, {"stage": "deploy"}), pool)["stage"] == "deploy"
    assert "stage" not in trust_facts(record, pool)


def test_what_the_job_claims_is_no_fact(record, pool):
    claiming = with_spec(record, claimed={"stage": "deploy", "ref_protected": "true"}, environment={"stage": "x"})
    assert trust_facts(claiming, pool) == trust_facts(record, pool)


def test_no_more_facts_than_a_token_carries(record, pool):
    facts = {f"f{number:03}": "x" for number in range(MAX_FACTS + 10)}
    crowded = with_facts(record, facts)
    told = trust_facts(crowded, pool).keys() - OWN_FACTS
    assert told == job_claims(crowded, pool, decision_id="d").keys() & facts.keys()
    assert len(told) == MAX_FACTS


@pytest.mark.parametrize(
    ("base", "digest"),
    [
        (f"registry.example/runner@{DIGEST}", DIGEST),
        (f"registry.example/runner:1.2@{DIGEST}", DIGEST),
        ("registry.example/runner:1.2", ""),
        ("host-toolchain", ""),
        (f"@{DIGEST}", ""),
        (f"a b@{DIGEST}", ""),
        (f"runner@{DIGEST}0", ""),
        (f"runner@{DIGEST}\n", ""),
        (f"runner@sha256:{'A' * 64}", ""),
    ],
)
def test_the_image_is_known_where_it_is_pinned(record, pool, base, digest):
    assert trust_facts(record, replace(pool, base=base))["runner_image_digest"] == digest
