"""From envelopes to facts for policy: three separate facts and the scans, all about one digest, all failing closed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.attestations.facts import MOST_ATTESTATIONS, facts
from orchestrator.evidence.attestations.making import signature_statement
from orchestrator.evidence.attestations.signers import Claim, Reporters, Signer, Signers, control_plane
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, statement_bytes
from orchestrator.evidence.provenance import provenance as our_provenance
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.summary import SUMMARY_TYPE
from orchestrator.model import events
from orchestrator.model.pool import TrustTier
from tests.unit.evidence.attestations.conftest import (
    CONTENT,
    DIGEST,
    FOREIGN_BUILDER,
    NOW,
    OTHER,
    OUR_BUILDER,
    OUTSIDE,
    SECOND,
    blob_bundle,
)
from tests.unit.evidence.attestations.documents import (
    CYCLONEDX,
    SIGN,
    SLSA,
    SLSA_02,
    VULN,
    bom,
    provenance,
    provenance_02,
    scan,
    spdx,
    trivy,
)

BOOLEANS = ("signed", "sbom", "provenance")


def refusals(found) -> list[str]:
    return [one["reason"] for one in found["refused"]]


def nothing_but(found, *names: str) -> None:
    assert {name for name in BOOLEANS if found[name]} == set(names)


def test_each_fact_by_a_statement_of_its_own(proven, signed):
    found = proven(
        signed(SIGN, {}),
        signed(CYCLONEDX, bom("a", "b")),
        signed(SLSA, provenance(FOREIGN_BUILDER)),
        signed(VULN, scan(trivy(("CVE-1", "HIGH", "2")))),
    )
    nothing_but(found, *BOOLEANS)
    assert [one["signer"] for name in ("signatures", "sboms", "provenances", "scans") for one in found[name]] == [
        OUTSIDE
    ] * 4
    assert found["sboms"][0]["components"] == 2
    assert found["provenances"][0]["level"] == 3
    assert found["scans"][0]["counts"] == {"critical": 0, "high": 1, "medium": 0, "low": 0, "unknown": 0}
    assert (found["built"], found["base"]) == ({}, "")  # that is for provenance of our own
    assert found["refused"] == []


@pytest.mark.parametrize(
    ("kind", "predicate", "name"),
    [
        (SIGN, {}, "signed"),
        (CYCLONEDX, bom("a"), "sbom"),
        (SLSA, provenance(FOREIGN_BUILDER), "provenance"),
        (VULN, scan(trivy()), ""),
    ],
)
def test_none_of_them_is_another(proven, signed, kind, predicate, name):
    """What `cosign verify` calls verified with an SBOM alone is not signed."""
    nothing_but(proven(signed(kind, predicate)), *([name] if name else []))


def test_a_signature_over_the_bytes_counts_as_one(proven, outside_key):
    found = proven(blob_bundle(CONTENT, outside_key))
    nothing_but(found, "signed")
    assert found["signatures"][0]["signer"] == OUTSIDE


def test_a_signature_over_other_bytes(proven, outside_key):
    found = proven(blob_bundle(b"other bytes", outside_key))
    nothing_but(found)
    assert refusals(found) == ["digest_not_covered"]


def test_a_signature_over_the_bytes_by_a_stranger(proven):
    assert refusals(proven(blob_bundle(CONTENT, generate_evidence_key()))) == ["key_unknown"]


def test_statements_about_another_artifact(proven, signed):
    found = proven(*(signed(kind, body, digest=OTHER) for kind, body in ((SIGN, {}), (CYCLONEDX, bom("a")))))
    nothing_but(found)
    assert refusals(found) == ["digest_not_covered", "digest_not_covered"]


def test_each_of_several_subjects_is_covered(proven, outside_key):
    told = signature_statement([("a", OTHER), ("b", DIGEST)])
    assert proven(sign_envelope(statement_bytes(told), IN_TOTO, outside_key))["signed"]


def test_a_strangers_word(proven, signed):
    found = proven(signed(SIGN, {}, key=generate_evidence_key()))
    nothing_but(found)
    assert refusals(found) == ["key_unknown"]


def test_a_changed_statement(proven, signed):
    true, other = json.loads(signed(SIGN, {})), json.loads(signed(CYCLONEDX, bom("a")))
    found = proven(json.dumps(true | {"signatures": other["signatures"]}))
    nothing_but(found)
    assert refusals(found) == ["signature_invalid"]


@pytest.mark.parametrize("claim", list(Claim))
def test_a_signer_says_only_what_it_may(proven, signed, ours, outside_key, claim):
    only = Signer(OUTSIDE, (outside_key.public,), frozenset({claim}), {FOREIGN_BUILDER: 3}, frozenset({"trivy"}))
    found = proven(
        signed(SIGN, {}),
        signed(CYCLONEDX, bom("a")),
        signed(SLSA, provenance(FOREIGN_BUILDER)),
        signed(VULN, scan(trivy())),
        by=Signers([ours, only]),
    )
    lists = {Claim.SIGNATURE: "signatures", Claim.SBOM: "sboms", Claim.PROVENANCE: "provenances", Claim.SCAN: "scans"}
    assert {one for one, name in lists.items() if found[name]} == {claim}
    assert refusals(found) == ["signer_not_entitled"] * 3


@pytest.mark.parametrize(
    ("not_before", "not_after", "reason"),
    [(NOW + 1, None, "signer_not_yet_valid"), (0, NOW, "signer_expired"), (NOW, NOW + 1, "")],
)
def test_a_signers_time(proven, signed, outside_key, not_before, not_after, reason):
    signer = Signer(
        OUTSIDE,
        (outside_key.public,),
        frozenset({Claim.SIGNATURE}),
        not_before_ns=not_before,
        not_after_ns=not_after,
    )
    found = proven(signed(SIGN, {}), by=Signers([signer]))
    assert found["signed"] is (reason == "")
    assert refusals(found) == ([reason] if reason else [])


def test_a_scanner_that_the_signer_may_not_speak_for(proven, signed):
    found = proven(signed(VULN, scan(trivy(), uri="https://scan.example/lenient")))
    assert found["scans"] == []
    assert refusals(found) == ["scanner_not_entitled"]


def test_a_builder_that_the_signer_may_not_speak_for(proven, signed):
    found = proven(signed(SLSA, provenance(OUR_BUILDER)), signed(SLSA_02, provenance_02("https://else.example")))
    nothing_but(found)
    assert refusals(found) == ["builder_unknown", "builder_unknown"]


def test_both_who_signed_one_statement_are_named(proven, signed, ours, outside, outside_key):
    second = generate_evidence_key()
    first_envelope, second_envelope = json.loads(signed(SIGN, {})), json.loads(signed(SIGN, {}, key=second))
    both = json.dumps(first_envelope | {"signatures": [*first_envelope["signatures"], *second_envelope["signatures"]]})
    other = Signer("auditor", (second.public,), frozenset({Claim.SIGNATURE}))
    found = proven(both, by=Signers([ours, outside, other]))
    assert [one["signer"] for one in found["signatures"]] == [OUTSIDE, "auditor"]


def test_the_same_envelope_twice_is_one(proven, signed):
    envelope = signed(SIGN, {})
    bare = json.loads(envelope)
    del bare["signatures"][0]["keyid"]
    bundle = {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": bare}
    found = proven(envelope, envelope, json.dumps(bare), json.dumps(bundle))
    assert len(found["signatures"]) == 1


def test_types_that_say_nothing_here_are_not_refused(proven, signed):
    found = proven(signed("https://slsa.dev/verification_summary/v1", {"verificationResult": "PASSED"}))
    nothing_but(found)
    assert found["refused"] == []


def test_nothing_at_all(proven):
    found = proven()
    nothing_but(found)
    assert found["reason"] == "provenance_missing"


@pytest.mark.parametrize("digest", ["", "a" * 64, "sha256:" + "A" * 64, DIGEST + "\n", "sha512:" + "a" * 128])
def test_a_malformed_digest(proven, signed, digest):
    found = proven(signed(SIGN, {}), digest=digest)
    nothing_but(found)
    assert found["reason"] == "digest_malformed"


def test_what_comes_after_the_bound_counts_for_nothing(proven, signed):
    assert not proven(*["{}"] * MOST_ATTESTATIONS, signed(SIGN, {}))["signed"]


def test_nameless_signatures_cannot_crowd_out_named_ones(proven, signed):
    junk = json.loads(signed(SIGN, {}, key=generate_evidence_key()))
    junk["signatures"] = [{"sig": junk["signatures"][0]["sig"]}] * 16
    crowd = [json.dumps(junk | {"payloadType": f"type/{number}"}) for number in range(50)]
    found = proven(*crowd, signed(SIGN, {}))
    assert found["signed"]
    assert "signatures_too_many" in refusals(found)


# Our own


@pytest.fixture
def pool_reports(story, pool, builder, our_key):
    """Our provenance for the artifact and, where asked, for a bill of materials beside it."""

    def report(*others: events.ArtifactReported, tell=None, digest: str = DIGEST) -> str:
        facts_of_job = (tell or story)(events.ArtifactReported("app.whl", digest, "application/zip", 1), *others)
        told = our_provenance(facts_of_job, pool, builder)
        assert told is not None
        return sign_envelope(statement_bytes(told), IN_TOTO, our_key)

    return report


@pytest.fixture
def reporter():
    return {
        "job": "dispatch.build1.1",
        "builder": OUR_BUILDER,
        "caller": "person@acme",
        "pool": "default",
        "trust_tier": "standard",
        "reported_at": "2027-01-15T08:09:00Z",
    }


def test_our_provenance(proven, pool_reports, offer):
    found = proven(pool_reports())
    nothing_but(found, "provenance")
    assert found["reason"] == ""
    assert found["base"] == "host-toolchain"
    assert found["built"]["job"] == "dispatch.build1.1"
    assert found["built"]["repository"] == "acme/app"
    assert found["built"]["caller"] == offer.caller.id
    (told,) = found["provenances"]
    assert (told["signer"], told["level"], told["builder"]) == ("control-plane", 2, OUR_BUILDER)
    assert (told["repository"], told["commit"]) == ("acme/app", "c" * 40)
    assert (told["caches"], told["egress_refused"]) == ([], 0)


def test_our_provenance_of_a_waived_job_has_its_own_builder(proven, story, pool, builder, our_key):
    told = our_provenance(story(events.ArtifactReported("app", DIGEST, "", 1)), pool, builder)
    waived = builder.id_for(pool, waived=True)
    told["predicate"]["runDetails"]["builder"]["id"] = waived
    signers = Signers([control_plane([our_key.public], {OUR_BUILDER: 2, waived: 1})])
    found = proven(sign_envelope(statement_bytes(told), IN_TOTO, our_key), by=signers)
    assert found["provenances"][0]["level"] == 1
    assert found["built"]["builder"] == waived


def test_a_listed_sbom_counts_and_says_nothing_of_its_content(proven, pool_reports, sbom):
    found = proven(pool_reports(sbom))
    nothing_but(found, "provenance", "sbom")
    assert (found["sboms"][0]["components"], found["sboms"][0]["reporter"]["job"]) == (0, "dispatch.build1.1")


def test_an_sbom_is_not_its_own_sbom(proven, pool_reports, sbom):
    assert not proven(pool_reports(sbom, digest=sbom.digest), digest=sbom.digest)["sbom"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("trust_tier", "protected"), ("isolation", "kata"), ("backend", "kubernetes"), ("trust_tier", "")],
)
def test_a_pool_that_is_not_the_builders(proven, story, pool, builder, our_key, field, value):
    told = our_provenance(story(events.ArtifactReported("app", DIGEST, "", 1)), pool, builder)
    told["predicate"]["buildDefinition"]["internalParameters"]["pool"][field] = value
    found = proven(sign_envelope(statement_bytes(told), IN_TOTO, our_key))
    nothing_but(found)
    assert (found["built"], found["reason"]) == ({}, "builder_contradicted")


def test_only_the_first_job_that_built_it_is_its_builder(proven, story, pool_reports, pool, offer):
    """A second job that reports the same bytes lends them nothing."""

    def later(*notes):
        return [replace(fact, at_ns=fact.at_ns + 60 * SECOND) for fact in story(*notes)]

    first, second = pool_reports(), pool_reports(tell=later)
    for order in ((first, second), (second, first)):
        found = proven(*order)
        assert found["built"]["finished_on"] == "2027-01-15T08:00:06Z"
        assert len(found["provenances"]) == 1
        assert refusals(found) == ["provenance_not_first"]


def test_nor_is_a_later_one_when_the_firsts_pool_is_none_of_ours_any_more(
    proven, story, pool, builder, pool_reports, our_key
):
    def later(*notes):
        return [replace(fact, at_ns=fact.at_ns + 60 * SECOND) for fact in story(*notes)]

    old = replace(pool, trust_tier=TrustTier.UNTRUSTED)
    told = our_provenance(story(events.ArtifactReported("app", DIGEST, "", 1)), old, builder)
    first, second = sign_envelope(statement_bytes(told), IN_TOTO, our_key), pool_reports(tell=later)
    for order in ((first, second), (second, first)):
        found = proven(*order)
        nothing_but(found)
        assert (found["built"], found["reason"]) == ({}, "builder_unknown")
        assert sorted(refusals(found)) == ["builder_unknown", "provenance_not_first"]
    assert proven(second)["provenance"]


@pytest.mark.parametrize(("minutes_before", "is_ours"), [(6, False), (4, True), (-1, True)])
def test_a_job_that_reports_what_another_builder_had_made_has_not_built_it(
    proven, signed, pool_reports, our_key, reporter, minutes_before, is_ours
):
    """Its own signature and SBOM say nothing of it then, and whoever made it keeps it."""
    made = provenance(FOREIGN_BUILDER)
    made["runDetails"]["metadata"]["finishedOn"] = (
        f"2027-01-15T{'08:01' if minutes_before < 0 else f'07:{60 - minutes_before}'}:00Z"
    )
    theirs = signed(SLSA, made)
    mine = [signed(kind, body, key=our_key, reporter=reporter) for kind, body in ((SIGN, {}), (CYCLONEDX, bom("a")))]
    found = proven(pool_reports(), theirs, *mine)
    assert bool(found["built"]) is is_ours
    nothing_but(found, *(BOOLEANS if is_ours else ("provenance",)))
    assert {one["signer"] for one in found["provenances"]} == {OUTSIDE, *(["control-plane"] if is_ours else [])}
    assert refusals(found) == ([] if is_ours else ["provenance_not_first"] + ["reporter_not_builder"] * 2)


def test_our_signature_and_sbom_are_for_the_job_that_built_it(proven, signed, pool_reports, our_key, reporter):
    stranger = reporter | {"job": "dispatch.other.1", "pool": "untrusted"}
    mine = [signed(kind, body, key=our_key, reporter=reporter) for kind, body in ((SIGN, {}), (CYCLONEDX, bom("a")))]
    theirs = [signed(kind, body, key=our_key, reporter=stranger) for kind, body in ((SIGN, {}), (CYCLONEDX, bom("a")))]
    nothing_but(proven(pool_reports(), *mine), *BOOLEANS)
    found = proven(pool_reports(), *theirs)
    nothing_but(found, "provenance")
    assert refusals(found) == ["reporter_not_builder"] * 2
    nothing_but(proven(*mine))  # without provenance nobody knows whose word it is


def test_our_statements_without_a_reporter_count_for_nothing(proven, signed, pool_reports, our_key):
    found = proven(pool_reports(), signed(SIGN, {}, key=our_key), signed(VULN, scan(trivy()), key=our_key))
    nothing_but(found, "provenance")
    assert sorted(refusals(found)) == ["reporter_missing", "reporter_not_entitled"]


def test_who_else_may_report_bills_of_materials(proven, signed, our_key, ours, reporter):
    envelope = signed(CYCLONEDX, bom("a"), key=our_key, reporter=reporter | {"job": "else", "pool": "sbom-makers"})
    nothing_but(proven(envelope))
    allowing = Signers([ours], sboms=Reporters(pools=frozenset({"sbom-makers"})))
    found = proven(envelope, by=allowing)
    nothing_but(found, "sbom")
    assert found["sboms"][0]["reporter"]["pool"] == "sbom-makers"


def test_scans_are_for_the_scanners_jobs(proven, signed, pool_reports, our_key, reporter):
    """The job that built it may not say that it is free of faults."""
    by_builder = signed(VULN, scan(trivy()), key=our_key, reporter=reporter)
    by_scanner = signed(VULN, scan(trivy()), key=our_key, reporter=reporter | {"job": "s", "pool": "scan"})
    other_name = signed(VULN, scan(trivy(), uri="grype"), key=our_key, reporter=reporter | {"pool": "scan"})
    found = proven(pool_reports(), by_builder, other_name)
    assert found["scans"] == []
    assert refusals(found) == ["reporter_not_entitled"] * 2
    (told,) = proven(by_scanner)["scans"]
    assert (told["signer"], told["reporter"]["job"], told["reporter"]["pool"]) == ("control-plane", "s", "scan")


def test_a_scan_ends_before_it_is_reported(proven, signed, our_key, reporter):
    late = scan(trivy(), finished="2027-01-15T08:09:30Z")
    told = reporter | {"pool": "scan", "reported_at": "2027-01-15T08:00:00Z"}
    assert refusals(proven(signed(VULN, late, key=our_key, reporter=told))) == ["time_in_the_future"]


def test_only_the_last_scan_of_each_scanner_is_told(proven, signed):
    """An artifact may be scanned every night for years."""
    found = [(f"CVE-{number}", "LOW", "") for number in range(150)]
    nights = [
        signed(VULN, scan(trivy(*found, (f"CVE-{day}", "HIGH", "")), finished=f"2026-12-{day:02}T03:00:00Z"))
        for day in (3, 28, 14)
    ]
    other = signed(VULN, scan({"matches": []}, uri="grype", finished="2026-12-30T00:00:00Z"))
    told = proven(*nights, other)["scans"]
    assert [(one["scanner"], one["finished_at"]) for one in told] == [
        ("grype", "2026-12-30T00:00:00Z"),
        ("trivy", "2026-12-28T03:00:00Z"),
    ]
    assert told[1]["found"][0]["id"] == "CVE-28"


def test_findings_of_all_scanners_together_are_bounded(proven, signed, ours, outside):
    names = [f"scanner-{number}" for number in range(5)]
    many = trivy(*((f"CVE-{number}", "LOW", "") for number in range(150)))
    by = Signers([ours, replace(outside, scanners=frozenset(names))])
    told = proven(*(signed(VULN, scan(many, uri=name)) for name in names), by=by)["scans"]
    assert sum(len(one["found"]) for one in told) == 600
    assert [one["truncated"] for one in told] == [False, False, False, False, True]
    assert {one["counts"]["low"] for one in told} == {150}


def test_anybody_elses_word_about_a_reporter_is_none(proven, signed, reporter):
    """The annotation is ours; a signer who writes it stays the one who said it."""
    found = proven(signed(CYCLONEDX, bom("a"), reporter=reporter))
    assert found["sboms"][0]["reporter"] is None
    assert found["sboms"][0]["signer"] == OUTSIDE


def test_a_malformed_reporter(proven, signed, our_key, reporter):
    for broken in ({**reporter, "pool": 1}, {"job": "x"}):
        for kind, body in ((VULN, scan(trivy())), (SUMMARY_TYPE, {})):
            envelope = signed(kind, body, key=our_key, reporter=broken)
            assert refusals(proven(envelope)) == ["statement_malformed"]


# Whatever a signer may have signed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEY = generate_evidence_key()
TRUSTED = Signers([control_plane([KEY.public], {OUR_BUILDER: 3})], scanners={"trivy": Reporters(frozenset({"scan"}))})
TYPES = [
    SUMMARY_TYPE,
    SIGN,
    CYCLONEDX,
    "https://spdx.dev/Document",
    SLSA,
    SLSA_02,
    VULN,
    "https://in-toto.io/attestation/vulns/v0.2",
]


@given(kind=st.sampled_from(TYPES), subject=json_values, predicate=json_values)
def test_no_signed_statement_makes_it_raise(kind, subject, predicate):
    told = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": kind,
        "subject": subject,
        "predicate": predicate,
    }
    nothing_but(facts(DIGEST, [sign_envelope(statement_bytes(told), IN_TOTO, KEY)], TRUSTED, NOW))


@given(text=st.text(max_size=200) | json_values.map(json.dumps))
def test_no_text_makes_it_raise(text):
    nothing_but(facts(DIGEST, [text], TRUSTED, NOW))


GOOD = {
    CYCLONEDX: bom("a"),
    "https://spdx.dev/Document": spdx("a"),
    SLSA: provenance(FOREIGN_BUILDER),
    SLSA_02: provenance_02(FOREIGN_BUILDER),
    VULN: scan(trivy(("CVE-1", "LOW", ""))),
}
FOREIGN = Signers([Signer("all", (KEY.public,), frozenset(Claim), {FOREIGN_BUILDER: 3}, frozenset({"trivy"}))])


def paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths(inner, (*path, number))


@pytest.mark.parametrize("kind", GOOD)
def test_a_part_of_any_other_kind_is_refused_or_left_out(kind):
    """Each part of each document replaced in turn: never an exception, and never a shape that policy does not know."""
    whole = facts(DIGEST, [envelope_of(kind, GOOD[kind])], FOREIGN, NOW)
    for path in paths(GOOD[kind]):
        for value in (None, 7, "", "x" * 5000, [], {}, [1], True, -0.5, "2999-01-01T00:00:00Z"):
            changed = json.loads(json.dumps(GOOD[kind]))
            target = holder = {"predicate": changed}
            key = "predicate"
            for key_ in path:
                target, key = target[key], key_
            target[key] = value
            found = facts(DIGEST, [envelope_of(kind, holder["predicate"])], FOREIGN, NOW)
            assert found.keys() == whole.keys()
            for name in ("sboms", "provenances", "scans"):
                for one in found[name]:
                    assert one.keys() == whole[name][0].keys()


def envelope_of(kind, predicate) -> str:
    told = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "subject": [{"name": "app", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    return sign_envelope(statement_bytes(told), IN_TOTO, KEY)
