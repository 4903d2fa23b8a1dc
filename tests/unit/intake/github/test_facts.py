"""Facts of a job: the same by token and by API, left out where not certain, protected only when known to be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from github_examples import CI, CLAIMS, FORK, ISSUER, JOB, MAIN, MAIN_REF, PROTECTED, RUN, SHOP, URL
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.github.facts import (
    COMMIT_EVENTS,
    FORK_EVENTS,
    FactsDisagreeError,
    ResolvedRef,
    check_agreement,
    job_from_api,
    job_from_claims,
    ref_of_head,
    ref_of_message,
)
from orchestrator.intake.github.rest.objects import ReferencedWorkflow
from orchestrator.intake.github.urls import parse_github_url


def test_token_and_api_tell_the_same():
    by_token = job_from_claims(URL, ISSUER, CLAIMS)
    by_api = job_from_api(URL, ISSUER, RUN, JOB, MAIN, workflow_ref=MAIN_REF)
    assert by_token is not None
    assert by_token.caller == by_api.caller
    assert by_token.key == by_api.key == "github.com/101/9001/2/31337"
    assert (by_token.proof, by_api.proof) == ("oidc", "api")
    assert by_token.pipeline == by_api.pipeline == "acme/shop/runs/9001"
    assert by_api.name == "test (3.13)"
    assert by_token.caller.subject == "repo:acme@7/shop@101"
    assert by_api.caller.facts["ref_protected"] == "true"
    assert by_api.caller.facts["fork"] == "false"


def test_the_page_names_exactly_these_facts():
    page = (Path(__file__).parents[4] / "docs" / "reference" / "policy-input.md").read_text()
    table = page.partition("### Facts of GitHub jobs")[2].partition("\nNo field")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    token = job_from_claims(URL, ISSUER, CLAIMS | {"environment": "prod"})
    assert token is not None
    assert named == token.caller.facts.keys()
    assert named - {"environment"} == job_from_api(URL, ISSUER, RUN, JOB, MAIN).caller.facts.keys()


def test_only_a_token_tells_the_environment():
    job = job_from_claims(URL, ISSUER, CLAIMS | {"environment": "prod"})
    assert job is not None
    assert job.deployment_environment == job.caller.facts["environment"] == "prod"
    assert job_from_api(URL, ISSUER, RUN, JOB, MAIN).deployment_environment == ""


def test_two_hosts_have_different_keys():
    other = parse_github_url("https://ghes.example:8443/acme")
    job = job_from_claims(other, other.oidc_issuer, CLAIMS)
    www = job_from_claims(parse_github_url("https://www.github.com/acme"), ISSUER, CLAIMS)
    assert job is not None
    assert www is not None
    assert job.key == "ghes.example:8443/101/9001/2/31337"
    assert www.key.startswith("github.com/")


@pytest.mark.parametrize("missing", ["check_run_id", "run_id", "repository_id", "run_attempt", "repository_owner_id"])
def test_claims_that_do_not_name_the_job_name_none(missing):
    assert job_from_claims(URL, ISSUER, {**CLAIMS, missing: ""}) is None
    assert job_from_claims(URL, ISSUER, {**CLAIMS, missing: "1/2"}) is None
    assert job_from_claims(URL, ISSUER, {key: value for key, value in CLAIMS.items() if key != missing}) is None


@pytest.mark.parametrize("event", sorted(FORK_EVENTS))
def test_what_a_fork_may_be_behind_is_not_said_to_be_none(event):
    claims = CLAIMS | {"event_name": event}
    alone = job_from_claims(URL, ISSUER, claims)
    assert alone is not None
    assert "fork" not in alone.caller.facts
    run = replace(RUN, event=event, head_repository=FORK)
    told = job_from_claims(URL, ISSUER, claims, run=run)
    assert told is not None
    assert told.caller.facts["fork"] == "true"


@pytest.mark.parametrize("head", [FORK, None])
def test_a_fork_that_is_gone_is_a_fork(head):
    job = job_from_api(URL, ISSUER, replace(RUN, head_repository=head), JOB, ResolvedRef())
    assert job.caller.facts["fork"] == "true"


def test_the_api_must_mean_the_same_run():
    for run in (
        replace(RUN, id=9002),
        replace(RUN, repository=replace(SHOP, id=5)),
        replace(RUN, event="pull_request"),
    ):
        with pytest.raises(FactsDisagreeError):
            job_from_claims(URL, ISSUER, CLAIMS, run=run)
    with pytest.raises(FactsDisagreeError):
        job_from_api(URL, ISSUER, replace(RUN, id=9002), JOB, MAIN)


@pytest.mark.parametrize("value", ["", "false", "TRUE", "1"])
def test_protection_not_claimed_is_none(value):
    job = job_from_claims(URL, ISSUER, CLAIMS | {"ref_protected": value})
    assert job is not None
    assert job.caller.facts["ref_protected"] == "false"


def test_what_is_not_certain_is_left_out():
    pull = replace(RUN, event="pull_request", head_branch="main", head_repository=FORK)
    facts = job_from_api(URL, ISSUER, pull, JOB, ResolvedRef()).caller.facts
    assert not {"ref", "ref_type", "sha", "workflow_ref", "workflow_sha", "job_workflow_ref"} & facts.keys()
    assert facts["ref_protected"] == "false"
    assert facts["fork"] == "true"
    called = replace(RUN, referenced_workflows=(ReferencedWorkflow("acme/ci/.github/workflows/r.yml@v3", "77", "v3"),))
    assert "job_workflow_ref" not in job_from_api(URL, ISSUER, called, JOB, MAIN).caller.facts, "which job calls it?"
    assert job_from_api(URL, ISSUER, RUN, JOB, MAIN).caller.facts["job_workflow_ref"] == MAIN_REF


def test_a_tag_is_never_protected():
    facts = job_from_api(URL, ISSUER, RUN, JOB, ResolvedRef("refs/tags/main", protected=True)).caller.facts
    assert (facts["ref_type"], facts["ref_protected"]) == ("tag", "false")


@pytest.mark.parametrize(
    ("workflow_ref", "ref"),
    [
        (MAIN_REF, "refs/heads/main"),
        (f"ACME/Shop/{CI}@refs/tags/v1", "refs/tags/v1"),
        (f"acme/shop/{CI}@refs/pull/12/merge", "refs/pull/12/merge"),
        (f"acme/shop/{CI}@refs/heads/a@b", "refs/heads/a@b"),
        ("acme/shop/.github/workflows/other.yml@refs/heads/main", ""),
        (f"evil/shop/{CI}@refs/heads/main", ""),
        (f"acme/shop/{CI}@main", ""),
        (f"acme/shop/{CI}@refs/heads/", ""),
        (f"acme/shop/{CI}@refs/heads/a b", ""),
        ("", ""),
        ("@", ""),
        ("a/b@refs/heads/main", ""),
    ],
)
def test_the_ref_of_a_message(workflow_ref, ref):
    assert ref_of_message(RUN, workflow_ref) == ref
    assert ref_of_message(replace(RUN, path=f"{CI}@main"), workflow_ref) == ref


def test_a_reusable_workflow_does_not_tell_the_ref_of_the_run():
    run = replace(RUN, referenced_workflows=(ReferencedWorkflow(f"acme/shop/{CI}@main", "9f1c", "refs/heads/main"),))
    assert ref_of_message(run, MAIN_REF) == ""


def test_the_ref_of_a_head():
    assert ref_of_head(RUN, PROTECTED, tag=False) == MAIN
    assert ref_of_head(RUN, None, tag=True) == ResolvedRef("refs/tags/main")
    assert ref_of_head(RUN, PROTECTED, tag=True) == ResolvedRef(), "both have the name"
    assert ref_of_head(RUN, None, tag=False) == ResolvedRef(), "neither is there any more"
    assert ref_of_head(replace(RUN, head_branch="a b"), PROTECTED, tag=False) == ResolvedRef()


def test_a_branch_put_in_the_place_of_a_tag_is_not_protected():
    moved = replace(PROTECTED, sha="0000")
    assert ref_of_head(RUN, moved, tag=False) == ResolvedRef("refs/heads/main", protected=False)
    assert not ref_of_head(replace(RUN, head_sha=""), replace(PROTECTED, sha=""), tag=False).protected


@given(st.text(max_size=30).filter(lambda event: event not in COMMIT_EVENTS))
def test_the_name_of_a_head_says_nothing_of_a_pull_request(event):
    assert ref_of_head(replace(RUN, event=event), PROTECTED, tag=False) == ResolvedRef()


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"run_id": "9002"}, "run_id"),
        ({"repository": "acme/other", "run_attempt": "1"}, "repository, run_attempt"),
        ({"job_workflow_ref": MAIN_REF.upper()}, "job_workflow_ref"),
    ],
)
def test_lies_are_named_and_not_repeated(told, named):
    with pytest.raises(FactsDisagreeError, match=f": {named}$") as caught:
        check_agreement(CLAIMS, told)
    assert caught.value.reason == "job_facts_disagree"
    assert "9002" not in caught.value.diagnostics()


def test_what_agrees_or_is_not_told_passes():
    check_agreement(CLAIMS, {"repository": "Acme/SHOP", "run_id": "9001", "environment": "prod", "ref": ""})


@given(st.dictionaries(st.sampled_from(sorted(CLAIMS)), st.text(max_size=40)))
def test_hostile_claims_never_break_the_mapping(changes):
    job = job_from_claims(URL, ISSUER, CLAIMS | changes)
    if job is not None:
        assert job.caller.facts["ref_protected"] in ("true", "false")
        assert all(job.caller.facts.values())
        assert job.key.count("/") == 4


def test_what_a_terminal_or_the_journal_cannot_take_is_not_in_a_name_or_a_fact():
    job = job_from_api(
        URL, ISSUER, replace(RUN, actor="kim\x1b[2J"), replace(JOB, name="a\ud800\x1b[2J\u202eb"), ResolvedRef()
    )
    assert job.name == "a  [2J b"
    assert "actor" not in job.caller.facts
    named = job_from_claims(URL, ISSUER, {**CLAIMS, "workflow": "ci\u202e\x9b"})
    assert named is not None
    assert named.name.isprintable()


def test_a_run_that_another_run_caused_is_not_said_to_be_of_no_fork():
    """It has the repository's own head, even if a fork's pull request caused the run before it."""
    run = replace(RUN, event="workflow_run")
    named = job_from_claims(URL, ISSUER, {**CLAIMS, "event_name": "workflow_run"}, run=run)
    assert named is not None
    assert "fork" not in named.caller.facts
    assert "fork" not in job_from_api(URL, ISSUER, run, JOB, MAIN).caller.facts
    foreign = replace(run, head_repository=FORK)
    assert job_from_api(URL, ISSUER, foreign, JOB, MAIN).caller.facts["fork"] == "true"
