"""The issuer: what it publishes, and the token of a job."""

from __future__ import annotations

import jwt
import pytest
from platform_clients import HandRunner

from orchestrator.testing.github.model import JobPlan
from orchestrator.testing.github.oidc import claims_of, subject_of

ALWAYS = {
    "iss", "aud", "sub", "jti", "iat", "nbf", "exp", "actor", "actor_id", "repository", "repository_id",
    "repository_owner", "repository_owner_id", "repository_visibility", "enterprise", "enterprise_id", "ref",
    "ref_type", "ref_protected", "sha", "base_ref", "head_ref", "event_name", "workflow", "workflow_ref",
    "workflow_sha", "job_workflow_ref", "job_workflow_sha", "run_id", "run_number", "run_attempt", "check_run_id",
    "runner_environment",
}  # fmt: skip


async def keys_of(github, listener):
    told = await listener.call("GET", f"{github.oidc.issuer}/.well-known/openid-configuration")
    assert told.json["issuer"] == github.oidc.issuer
    keys = (await listener.call("GET", told.json["jwks_uri"])).json["keys"]
    return {key["kid"]: jwt.PyJWK(key) for key in keys}


async def verified(github, listener, token, audience="ours"):
    key = (await keys_of(github, listener))[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key.key, algorithms=["RS256"], audience=audience, issuer=github.oidc.issuer)


@pytest.mark.parametrize("suffix", ["", "/big"])
async def test_a_running_job_gets_a_token_that_verifies(github, listener, options, suffix):
    options.issuer_suffix = suffix
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop", [JobPlan("test", id_token=True)])
    await listener.events(session)
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    variables = (await runner.job()).json["variables"]
    assert variables["ACTIONS_ID_TOKEN_REQUEST_URL"].startswith(github.url)
    url = variables["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=ours"
    answer = await listener.call("GET", url, variables["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
    token = answer.json["value"]
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": header["kid"], "x5t": header["kid"]}
    claims = await verified(github, listener, token)
    assert claims.keys() == ALWAYS
    assert claims["run_id"] == str(run.id)
    assert claims["check_run_id"] == str(run.jobs[0].check_run_id)
    assert claims["runner_environment"] == "self-hosted"
    assert (claims["ref_type"], claims["ref_protected"]) == ("branch", "true")
    assert claims["exp"] - claims["iat"] == 300
    assert claims["iat"] - claims["nbf"] == 600
    assert all(isinstance(claims[name], str) for name in ALWAYS - {"iat", "nbf", "exp"})


async def test_no_permission_no_token(github, listener):
    one = await listener.make_set()
    session = await listener.open(one["id"])
    run = github.dispatch_workflow("acme/shop")
    await listener.events(session)
    await listener.generate(one["id"], "r-1")
    runner = HandRunner(listener, "r-1")
    await runner.come()
    variables = (await runner.job()).json["variables"]
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" not in variables
    url = f"{github.url}/_broker/idtoken/{run.jobs[0].key}?api-version=2.0"
    assert (await listener.call("GET", url, run.jobs[0].token)).status == 401


async def test_the_audience_is_the_owner_unless_asked(github, listener):
    job = github.dispatch_workflow("acme/shop").jobs[0]
    assert (await verified(github, listener, github.oidc.token(job), f"{github.url}/acme"))["repository"] == "acme/shop"


async def test_keys_rotate_and_retire(github, listener):
    job = github.dispatch_workflow("acme/shop").jobs[0]
    old = github.oidc.token(job, "ours")
    github.oidc.rotate()
    new = github.oidc.token(job, "ours")
    assert (await verified(github, listener, old))["jti"] != (await verified(github, listener, new))["jti"]
    github.oidc.retire()
    assert (await verified(github, listener, new))["aud"] == "ours"
    with pytest.raises(KeyError):
        await verified(github, listener, old)


async def test_claims_may_be_replaced_for_tokens_to_refuse(github, listener):
    job = github.dispatch_workflow("acme/shop").jobs[0]
    token = github.oidc.token(job, "ours", runner_environment="github-hosted")
    assert (await verified(github, listener, token))["runner_environment"] == "github-hosted"


@pytest.mark.parametrize(
    ("plan", "more", "subject"),
    [
        ({}, {}, "repo:acme/shop:ref:refs/heads/main"),
        ({"environment": "prod"}, {"event": "pull_request"}, "repo:acme/shop:environment:prod"),
        ({"environment": "a:b"}, {}, "repo:acme/shop:environment:a%3Ab"),
        ({}, {"event": "pull_request", "ref": "refs/pull/1/merge"}, "repo:acme/shop:pull_request"),
        ({}, {"ref": "refs/tags/v1"}, "repo:acme/shop:ref:refs/tags/v1"),
    ],
)
async def test_subjects(github, plan, more, subject):
    assert subject_of(github.dispatch_workflow("acme/shop", [JobPlan(**plan)], **more).jobs[0]) == subject


async def test_the_immutable_subject(github):
    made = github.add_repository("acme/new", immutable_subject=True)
    job = github.dispatch_workflow("acme/new").jobs[0]
    assert subject_of(job) == f"repo:acme@{made.owner.id}/new@{made.id}:ref:refs/heads/main"


async def test_a_customised_subject(github):
    github.state.owners["acme"].subject_keys = ("repo", "context", "job_workflow_ref")
    job = github.dispatch_workflow("acme/shop").jobs[0]
    workflow = "acme/shop/.github/workflows/ci.yml@refs/heads/main"
    assert subject_of(job) == f"repo:acme/shop:ref:refs/heads/main:job_workflow_ref:{workflow}"


async def test_claims_that_only_some_jobs_have(github, options):
    made = github.add_repository("acme/prop", visibility="public", properties={"team": "blue"})
    plan = JobPlan(environment="prod", job_workflow_ref="acme/ci/.github/workflows/r.yml@refs/tags/v3")
    job = github.dispatch_workflow("acme/prop", [plan]).jobs[0]
    claims = claims_of(job, "ours", github.oidc.issuer, github.state)
    assert claims["environment"] == "prod"
    assert claims["repo_property_team"] == "blue"
    assert claims["job_workflow_ref"] == "acme/ci/.github/workflows/r.yml@refs/tags/v3"
    assert claims["repository_visibility"] == made.visibility


async def test_ghes_says_nothing_of_protection(ghes_options, github):
    job = github.dispatch_workflow("acme/shop").jobs[0]
    assert "ref_protected" not in claims_of(job, "ours", github.oidc.issuer, github.state)
