"""What the control plane swears to, and what it does not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.evidence.provenance import provenance, statement_bytes
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict
from orchestrator.model.job import Caller
from orchestrator.model.outcome import Result
from orchestrator.model.platform import PlatformJob
from orchestrator.model.pool import TrustTier


def test_the_statement_of_a_successful_build(story, wheel, sbom, pool, builder):
    statement = provenance(story(wheel, sbom), pool, builder)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert statement["subject"] == [
        {"name": "app.whl", "digest": {"sha256": "a" * 64}, "mediaType": "application/zip"},
        {"name": "app.cdx.json", "digest": {"sha256": "b" * 64}, "mediaType": "application/vnd.cyclonedx+json"},
    ]
    definition = statement["predicate"]["buildDefinition"]
    external = definition["externalParameters"]
    assert external["source"] == {"repository": "acme/app", "ref": "refs/heads/main", "sha": "c" * 40}
    assert external["script"].startswith("sha256:")
    assert external["caller"]["issuer"] == "https://issuer.example"
    internal = definition["internalParameters"]
    assert internal["pool"]["trust_tier"] == "standard"
    assert internal["policy"] == {"bundle": "sha256:2", "input": "sha256:1", "decision": "d1"}
    assert internal["runner"] == {"name": "runner-1", "uid": "uid-1"}
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": "c" * 40}
    run = statement["predicate"]["runDetails"]
    assert run["builder"]["id"] == "https://ci.example/builders/sandbox/bubblewrap/standard/v1"
    assert run["metadata"] == {
        "invocationId": "dispatch.build1.1",
        "startedOn": "2027-01-15T08:00:04Z",
        "finishedOn": "2027-01-15T08:00:07Z",
    }


def test_texts_of_the_job_and_names_of_people_stay_out(story, wheel, pool, builder):
    text = statement_bytes(provenance(story(wheel), pool, builder)).decode()
    for private in ("secret-script", "VARIABLE", "its-value", "person@acme", "someone", "signed"):
        assert private not in text


@pytest.mark.parametrize(
    "field", ["script", "environment", "claimed", "timeout_seconds", "pipeline", "artifact_digest", "ticket", "secrets"]
)
def test_every_input_of_the_job_changes_the_statement(story, wheel, pool, builder, offer, field):
    values = {"environment": {"A": "1"}, "claimed": {"A": "1"}, "timeout_seconds": 9, "secrets": ("a-name",)}
    first = provenance(story(wheel), pool, builder)
    facts = story(wheel)
    spec = replace(offer.spec, **{field: values.get(field, "changed")})
    facts[0] = replace(facts[0], event=events.JobOffered(replace(offer, spec=spec)))
    assert provenance(facts, pool, builder) != first


@pytest.mark.parametrize("result", [result for result in Result if result is not Result.SUCCESS])
def test_nothing_is_sworn_about_a_job_that_did_not_succeed(story, wheel, pool, builder, result):
    assert provenance(story(wheel, result=result), pool, builder) is None


def test_nothing_is_sworn_without_artifact_end_or_runner(story, wheel, pool, builder):
    assert provenance(story(), pool, builder) is None
    assert provenance(story(wheel)[:-1], pool, builder) is None
    assert provenance([f for f in story(wheel) if not isinstance(f.event, events.RunnerBound)], pool, builder) is None
    assert provenance([], pool, builder) is None


@pytest.mark.parametrize(
    "digest", ["", "md5:abc", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 64 + "\n"]
)
def test_a_malformed_digest_is_no_subject(story, wheel, pool, builder, digest):
    bad = replace(wheel, digest=digest)
    assert provenance(story(bad), pool, builder) is None
    assert len(provenance(story(bad, wheel), pool, builder)["subject"]) == 1


def test_the_same_report_twice_is_one_subject(story, wheel, pool, builder):
    assert len(provenance(story(wheel, wheel), pool, builder)["subject"]) == 1


def test_each_way_of_building_is_a_builder_of_its_own(pool, builder):
    others = [
        pool,
        replace(pool, trust_tier=TrustTier.PROTECTED),
        replace(pool, isolation="none"),
        replace(pool, backend="kubernetes"),
    ]
    assert len({builder.id_for(other) for other in others}) == 4


def test_an_image_base_is_a_dependency_by_digest(story, wheel, pool, builder):
    base = "registry.example/base@sha256:" + "d" * 64
    statement = provenance(story(wheel), replace(pool, base=base), builder)
    found = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"name": "runner-base", "uri": base, "digest": {"sha256": "d" * 64}} in found


def test_equal_facts_give_equal_bytes(story, wheel, pool, builder):
    first, second = (statement_bytes(provenance(story(wheel), pool, builder)) for _ in range(2))
    assert first == second
    assert json.loads(first)


def test_what_the_running_job_said_it_deploys_is_told_once(story, wheel, pool, builder):
    one, other = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    told = provenance(story(events.ArtifactNamed(one), events.ArtifactNamed(other), wheel), pool, builder)
    assert told["predicate"]["buildDefinition"]["externalParameters"]["artifact_digest"] == one


def test_of_a_job_that_its_platform_named_the_statement_tells_what_the_platform_proved(story, wheel, pool, builder):
    facts = {"repository": "octo/site", "ref": "refs/heads/main", "sha": "d" * 40}
    caller = Caller("https://platform.example", "repo:octo/site", facts)
    decision = Decision("d9", Stage.ADMISSION, Verdict.ALLOW, input_digest="sha256:8", bundle_digest="sha256:9")
    named = events.PlatformJobNamed(PlatformJob("k", "unit tests", caller, "ci.yml"), decision)
    definition = provenance(story(named, wheel), pool, builder)["predicate"]["buildDefinition"]
    external = definition["externalParameters"]
    assert external["source"] == facts
    assert external["caller"] == {"id": caller.id, "issuer": caller.issuer}
    assert (external["job"], external["pipeline"]) == ("unit tests", "ci.yml")
    assert definition["internalParameters"]["policy"]["decision"] == "d9"
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": "d" * 40}
