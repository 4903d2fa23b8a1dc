"""What a token says: the subject's grammar, tags, and that the job cannot speak through it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import GiveUpError
from orchestrator.identity.claims import (
    MAX_SUBJECT_BYTES,
    RESERVED_CLAIMS,
    deadline_seconds,
    job_claims,
    session_tags,
    subject,
)
from orchestrator.model.decision import Obligations
from orchestrator.model.job import Caller

GITHUB = {"repository": "acme/app", "repository_id": "34", "repository_owner_id": "12", "ref": "refs/heads/main"}


def sub(facts, environment="", issuer="https://ci.example", pool="default"):
    return subject(Caller(issuer, "someone", facts), pool, environment)


def test_subject_names_immutable_ids_and_the_environment():
    assert re.fullmatch(r"from:[0-9a-f]{10}:repo:acme@12/app@34:environment:prod", sub(GITHUB, "prod"))


def test_subject_falls_back_to_ref_then_pool():
    assert sub(GITHUB).endswith(":repo:acme@12/app@34:ref:refs/heads/main")
    assert sub({"repository": "group/sub/app", "repository_id": "9"}).endswith(":repo:group/sub/app@9:pool:default")


def test_subject_without_a_repository_names_the_caller():
    caller = Caller("https://ci.example", "operator")
    assert subject(caller, "default", "staging") == f"caller:{caller.id}:environment:staging"


def test_equal_repositories_of_two_issuers_differ():
    assert sub(GITHUB, "prod", "https://one.example") != sub(GITHUB, "prod", "https://two.example")


def test_a_value_cannot_forge_another_part():
    honest = sub(GITHUB | {"ref": "x"}, "prod")
    for ref in ("x:environment:prod", "x%3Aenvironment%3Aprod"):
        assert sub(GITHUB | {"ref": ref}) != honest
        assert sub(GITHUB | {"ref": ref}).count(":") == honest.count(":")
    assert sub(GITHUB | {"repository": "acme@12/app@34", "repository_id": "", "repository_owner_id": ""}) != sub(GITHUB)
    assert "*" not in sub(GITHUB, "pro*")


def test_too_long_a_subject_keeps_the_repository_id_then_becomes_a_hash():
    long_name = GITHUB | {"repository": "acme/" + "x" * 100}
    assert sub(long_name, "prod") == f"{sub(GITHUB, 'prod').split(':repo:')[0]}:repo-id:34:environment:prod"
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", sub(GITHUB, "e" * 120))
    assert sub(GITHUB, "e" * 120) != sub(GITHUB, "e" * 121)


text = st.text(max_size=200)
some_facts = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("repository", "repository_id", "repository_owner_id", "ref"), text),
)


@given(facts=some_facts, environment=text, pool=st.text(min_size=1, max_size=63))
def test_every_subject_is_short_printable_ascii(facts, environment, pool):
    try:
        found = sub(facts, environment, pool=pool)
    except UnicodeEncodeError:
        pytest.fail("a subject must take any text that can be encoded")
    assert len(found.encode("ascii")) <= MAX_SUBJECT_BYTES
    assert re.fullmatch(r"[A-Za-z0-9._~/%@:-]+", found)
    assert "*" not in found
    assert "?" not in found


@given(left=some_facts, right=some_facts, one=text, two=text)
def test_different_identities_never_share_a_subject(left, right, one, two):
    def identity(facts, environment):
        if not facts.get("repository"):
            return ("caller", environment or ("ref", facts.get("ref", "")))
        owner, slash, name = facts["repository"].rpartition("/")
        ids = (facts.get("repository_owner_id", "") if slash else "", facts.get("repository_id", ""))
        return (owner, slash, name, ids, ("env", environment) if environment else ("ref", facts.get("ref", "")))

    first, second = sub(left, one), sub(right, two)
    # The short form names the repository by its id alone, on purpose.
    if identity(left, one) != identity(right, two) and ":repo-id:" not in first + second:
        assert first != second


def test_facts_of_the_caller_are_claims_but_never_ours(make_record, pool):
    facts = dict.fromkeys(RESERVED_CLAIMS, "forged") | {"repository": "acme/app", "Bad Name": "x", "x" * 65: "y"}
    claims = job_claims(make_record(facts=facts), pool, decision_id="d1")
    assert "forged" not in claims.values()
    assert claims["repository"] == "acme/app"
    assert "azp" not in claims
    assert "Bad Name" not in claims
    assert "x" * 65 not in claims


def test_claims_name_job_runner_and_pool(record, pool):
    claims = job_claims(record, pool, decision_id="d1")
    assert claims["job_id"] == "dispatch.job1.1"
    assert claims["attempt"] == 1
    assert claims["source"] == "dispatch"
    assert claims["pool"] == "default"
    assert claims["trust_tier"] == "standard"
    assert claims["runner"] == record.runner
    assert claims["runner_uid"] == "uid-1"
    assert claims["environment"] == "staging"
    assert claims["decision_id"] == "d1"
    assert claims["repository_id"] == "34"


def test_what_the_job_only_claims_is_not_in_the_token(record, pool):
    spec = replace(
        record.offer.spec,
        claimed={"signed": "true"},
        environment={"VARIABLE": "value"},
        deployment_environment="",
        pipeline="its-own-word",
    )
    claims = job_claims(replace(record, offer=replace(record.offer, spec=spec)), pool, decision_id="d1")
    assert "environment" not in claims
    assert not {"claimed", "signed", "VARIABLE", "pipeline", "script"} & set(claims)
    assert "its-own-word" not in str(claims)


def test_tags_take_the_form_aws_reads():
    found = session_tags({"repository": "acme/app", "environment": "prod", "team": "core"})
    assert found["principal_tags"] == {"repository": ["acme/app"], "environment": ["prod"], "team": ["core"]}
    assert found["transitive_tag_keys"] == ["environment", "repository"]


@pytest.mark.parametrize(
    "tags",
    [
        {f"k{i}": "v" for i in range(51)},
        {"": "v"},
        {"k" * 129: "v"},
        {"k": "v" * 257},
        {"k": "semi;colon"},
        {"k": "line\nbreak"},
        {"k*": "v"},
        {"k": "\u2028"},
        {"aws:reserved": "v"},
        {"AWS:reserved": "v"},
        {"team": "a", "Team": "b"},
    ],
)
def test_tags_that_aws_would_refuse_are_refused_here(tags):
    with pytest.raises(GiveUpError) as caught:
        session_tags(tags)
    assert caught.value.reason == "session_tags_invalid"


def test_tags_at_the_limits_pass():
    tags = {f"k{i}".ljust(128, "x"): "v" * 256 for i in range(50)} | {}
    assert len(session_tags(tags)["principal_tags"]) == 50
    assert session_tags({"k": "Zürich _.:/=+-@1"})["principal_tags"] == {"k": ["Zürich _.:/=+-@1"]}


def test_the_deadline_is_the_shortest_of_all_limits(record, pool):
    bound = record.bound_at_ns // 1_000_000_000
    assert deadline_seconds(record, pool) == bound + 3600
    asked = replace(record.offer, spec=replace(record.offer.spec, timeout_seconds=100))
    assert deadline_seconds(replace(record, offer=asked), pool) == bound + 100
    limited = replace(record, offer=asked, obligations=Obligations(max_duration_seconds=50))
    assert deadline_seconds(limited, pool) == bound + 50
