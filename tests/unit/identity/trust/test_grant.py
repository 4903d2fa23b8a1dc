"""One grant for a job, an audience and a role; and refusals in four parts: rule, input, what it had to be, way out."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.identity.trust.answers import Grant, Refusal
from orchestrator.identity.trust.document import Target
from orchestrator.identity.trust.matching import MAX_CANDIDATES
from orchestrator.identity.trust.reading import document
from orchestrator.identity.trust.refusals import MAX_SHOWN_CHARS
from orchestrator.identity.trust.strict import Place
from orchestrator.identity.trust.trust_map import TrustMap
from tests.unit.identity.trust.conftest import EXAMPLES, FACTS, PROD, ROLE

AUDIENCE = "sts.amazonaws.com"


@pytest.fixture
def trust_map(load, prod):
    return load(prod)


def unchecked(*contents):
    """A map that the checks would refuse."""
    return TrustMap(document(content, Place("x.yaml")) for content in contents)


@pytest.mark.parametrize("role", ["", ROLE])
def test_a_job_whose_facts_are_all_right_has_its_grant(trust_map, role):
    assert trust_map.grant(FACTS, AUDIENCE, role) == Grant(
        rule="prod/app-release",
        environment="prod",
        issuer="prod",
        target=Target("aws-prod", "aws", AUDIENCE, 900, 300, 900),
        role=ROLE,
        max_ttl_seconds=300,
        session_tags={"repository": "acme/app", "stage": "prod"},
        transitive=("stage",),
    )


@pytest.mark.parametrize("claim", ["ref", "ref_protected", "trust_tier", "repository"])
@pytest.mark.parametrize("value", [None, "", "x" * 100_000])
def test_each_condition_alone_refuses(trust_map, claim, value):
    facts = {name: text for name, text in FACTS.items() if name != claim}
    if value is not None:
        facts[claim] = value
    refusal = trust_map.grant(facts, AUDIENCE)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.rule, refusal.claim) == ("trust_claim_mismatch", "prod/app-release", claim)
    assert len(refusal.message) < 500


def test_a_refusal_has_four_parts(trust_map):
    """M-47: the rule, the input that failed, what it had to be, and the way out with a link."""
    refusal = trust_map.grant(FACTS | {"ref": "refs/heads/main", "ref_protected": "false"}, AUDIENCE)
    assert refusal.rule == "prod/app-release"
    assert (refusal.claim, refusal.found) == ("ref", "refs/heads/main")
    assert refusal.wanted == 'matching "refs/heads/release/*"'
    assert refusal.fix
    assert refusal.link == "docs/reference/reasons.md#trust_claim_mismatch"
    assert refusal.message == (
        'prod/app-release wants ref matching "refs/heads/release/*", but ref is "refs/heads/main"; '
        "it also fails by ref_protected"
    )


def every_refusal():
    """One of each way to be refused."""
    other = copy.deepcopy(PROD["grants"][0]) | {"name": "twin"}
    second = copy.deepcopy(PROD["grants"][0]) | {"name": "second", "roles": [ROLE + "-2", ROLE + "-3"]}
    twins = copy.deepcopy(PROD)
    twins["grants"].append(other)
    several = copy.deepcopy(PROD)
    several["grants"].append(second)
    lone = copy.deepcopy(PROD)
    lone["grants"] = [second]
    return {
        "no document": (unchecked(PROD).grant(FACTS | {"environment": "qa"}, AUDIENCE), "trust_no_grant", "qa/"),
        "deploys nowhere": (unchecked(PROD).grant({}, AUDIENCE), "trust_no_grant", "-/"),
        "no audience": (unchecked(PROD).grant(FACTS, "https://other.example"), "trust_no_grant", "prod/"),
        "not pinned": (unchecked(PROD).grant(FACTS | {"repository_id": "43"}, AUDIENCE), "trust_no_grant", "prod/"),
        "no identity": (unchecked(PROD).grant({"environment": "prod"}, AUDIENCE), "trust_no_grant", "prod/"),
        "mismatch": (
            unchecked(PROD).grant(FACTS | {"ref": "x"}, AUDIENCE), "trust_claim_mismatch", "prod/app-release"
        ),
        "untrusted": (
            unchecked(PROD).grant(FACTS | {"trust_tier": "untrusted"}, AUDIENCE),
            "trust_claim_mismatch",
            "prod/app-release",
        ),
        "ambiguous": (unchecked(twins).grant(FACTS, AUDIENCE), "trust_ambiguous", "prod/app-release"),
        "ambiguous role": (unchecked(twins).grant(FACTS, AUDIENCE, ROLE), "trust_ambiguous", "prod/app-release"),
        "not mapped": (unchecked(PROD).grant(FACTS, AUDIENCE, "admin"), "role_not_mapped", "prod/app-release"),
        "required of one": (unchecked(lone).grant(FACTS, AUDIENCE), "role_required", "prod/second"),
        "required of two": (unchecked(several).grant(FACTS, AUDIENCE), "role_required", "prod/app-release"),
    }  # fmt: skip


@pytest.mark.parametrize("name", every_refusal())
def test_every_refusal_says_which_rule_which_input_what_was_wanted_and_what_to_do(name):
    refusal, code, rule = every_refusal()[name]
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.rule) == (code, rule)
    for part in (refusal.claim, refusal.wanted, refusal.fix, refusal.message):
        assert part
    told = refusal.as_json()
    assert told["granted"] is False
    assert told["link"].endswith(f"#{code}")
    assert refusal.found or name in ("deploys nowhere", "no identity", "required of one", "required of two")


def test_two_that_match_are_both_named():
    refusal, *_ = every_refusal()["ambiguous"]
    assert "prod/app-release and prod/twin both match" in refusal.message


def test_a_missing_role_is_told_with_the_choice():
    refusal, *_ = every_refusal()["required of two"]
    assert refusal.wanted == f"one of {ROLE}, {ROLE}-2, {ROLE}-3"


def test_a_role_without_grants_for_it_is_refused_when_the_target_has_none(load, prod):
    prod["targets"]["aws-prod"] = {"kind": "oidc", "audience": AUDIENCE}
    del prod["grants"][0]["roles"]
    trust_map = load(prod)
    assert trust_map.grant(FACTS, AUDIENCE).role == ""
    refusal = trust_map.grant(FACTS, AUDIENCE, "admin")
    assert (refusal.code, refusal.wanted) == ("role_not_mapped", "none")


def test_others_grants_are_not_told_to_a_job(load, prod):
    """The author of a job learns of its own grants only, also by asking for roles that others have."""
    prod["grants"].append(copy.deepcopy(prod["grants"][0]) | {"name": "secret-project"})
    prod["grants"][1] |= {"roles": [ROLE + "-secret"]}
    prod["grants"][1]["when"]["repository_id"] = {"equals": "43"}
    trust_map = load(prod)
    for facts in (FACTS, FACTS | {"ref": "x"}, FACTS | {"repository_id": "44"}, {"environment": "prod"}):
        for role in ("", ROLE, f"{ROLE}-secret", f"{ROLE}-unknown"):
            answer = trust_map.grant(facts, AUDIENCE, role)
            told = str(answer.as_json()).replace(role, "") if role else str(answer.as_json())
            assert "secret" not in told
            assert "43" not in told
    named = trust_map.grant(FACTS, AUDIENCE, f"{ROLE}-secret")
    unknown = trust_map.grant(FACTS, AUDIENCE, f"{ROLE}-unknown")
    assert named.message.replace("secret", "unknown") == unknown.message


def test_an_id_of_another_issuer_is_somebody_else(load, prod):
    prod["grants"][0]["when"]["caller_issuer"] = {"equals": "https://ci.example"}
    trust_map = load(prod)
    facts = FACTS | {"caller_issuer": "https://ci.example"}
    assert isinstance(trust_map.grant(facts, AUDIENCE), Grant)
    refusal = trust_map.grant(facts | {"caller_issuer": "https://evil.example"}, AUDIENCE)
    assert refusal.code == "trust_no_grant"


@pytest.mark.parametrize(("own", "written"), [("42", None), ("7", "7")])
def test_an_installation_token_is_for_one_repository(load, prod, own, written):
    prod["targets"] = {"source": {"kind": "github", "audience": "github:acme"}}
    prod["grants"] = [
        {
            "name": "source",
            "when": {"repository_id": {"equals": "42"}},
            "target": "source",
            "permissions": {"contents": "read"},
        }
    ]
    if written:
        prod["grants"][0]["repository_id"] = written
    grant = load(prod).grant(FACTS, "github:acme")
    assert grant.repository_id == own
    assert grant.permissions == {"contents": "read"}
    assert (grant.role, grant.session_tags, grant.max_ttl_seconds) == ("", {}, 3600)


def test_a_grant_without_a_tier_is_for_trusted_pools(load, prod):
    del prod["grants"][0]["when"]["trust_tier"]
    trust_map = load(prod)
    for tier in ("standard", "protected"):
        assert isinstance(trust_map.grant(FACTS | {"trust_tier": tier}, AUDIENCE), Grant)
    for tier in ("untrusted", "", "Protected", "other"):
        assert trust_map.grant(FACTS | {"trust_tier": tier}, AUDIENCE).claim == "trust_tier"


def test_a_tag_is_what_aws_takes_or_there_is_no_grant(trust_map):
    assert trust_map.grant(FACTS | {"repository": "äcme/app 1"}, AUDIENCE).session_tags["repository"] == "äcme/app 1"
    for value in ("a;b", "a" * 257, "a\nb"):
        refusal = trust_map.grant(FACTS | {"repository": value}, AUDIENCE)
        assert (refusal.claim, refusal.wanted) == ("repository", "there, and fit for a session tag")


@given(st.text(max_size=300))
def test_what_is_shown_of_a_claim_is_printable_and_short(value):
    refusal = unchecked(PROD).grant(FACTS | {"ref": value}, AUDIENCE, "")
    if isinstance(refusal, Refusal):
        assert refusal.found.isprintable()
        assert refusal.message.isprintable()
        assert len(refusal.found) <= MAX_SHOWN_CHARS


# --- explanations -------------------------------------------------------------------------------------------------


def test_an_explanation_shows_each_condition(trust_map):
    told = trust_map.explain(FACTS | {"ref": "refs/heads/main"}, AUDIENCE)
    (candidate,) = told.candidates
    assert [(one.claim, one.ok, one.implied) for one in candidate.conditions] == [
        ("repository_id", True, False),
        ("ref", False, False),
        ("ref_protected", True, False),
        ("trust_tier", True, False),
        ("repository", True, True),
    ]
    assert (candidate.pinned, candidate.matched, candidate.role_ok) == (True, False, True)
    assert told.answer == trust_map.grant(FACTS | {"ref": "refs/heads/main"}, AUDIENCE)
    assert told.as_json()["trust_digest"] == trust_map.digest


def test_an_explanation_has_the_nearest_first_and_a_bound(load, prod):
    first = prod["grants"][0]
    for number in range(MAX_CANDIDATES + 5):
        grant = copy.deepcopy(first) | {"name": f"g{number}", "roles": [f"{ROLE}{number}"]}
        grant["when"]["repository_id"] = {"equals": f"1{number}"}
        prod["grants"].append(grant)
    told = load(prod).explain(FACTS | {"repository_id": "17"}, AUDIENCE, f"{ROLE}7")
    assert told.candidates[0].rule == "prod/g7"
    assert told.candidates[0].matched
    assert told.answer.rule == "prod/g7"
    assert (len(told.candidates), told.left_out) == (MAX_CANDIDATES, 6)


@pytest.mark.parametrize(("environment", "audience"), [("qa", AUDIENCE), ("prod", "x"), ("", AUDIENCE)])
def test_where_there_is_nothing_the_explanation_says_so(trust_map, environment, audience):
    told = trust_map.explain(FACTS | {"environment": environment}, audience)
    assert (told.candidates, told.left_out) == ((), 0)
    assert told.answer.code == "trust_no_grant"


# --- what builds and deployments have apart (M-125, M-128) -----------------------------------------------------------


@pytest.fixture(scope="module")
def examples():
    return TrustMap.load([EXAMPLES])


def test_a_build_that_asks_for_a_deployment_is_refused(examples):
    build = {
        "caller_issuer": "https://token.actions.githubusercontent.com", "repository_id": "42",
        "trust_tier": "protected",
        "repository": "acme/shop", "ref": "refs/heads/main", "ref_protected": "true", "fork": "false", "sha": "a" * 40,
        "workflow_ref": "acme/shop/.github/workflows/release.yml@refs/heads/release/1", "environment": "",
    }  # fmt: skip
    roles = [role for one in examples.documents if one.environment for grant in one.grants for role in grant.roles]
    assert roles
    for role in ["", *roles]:
        for audience in examples.audiences:
            answer = examples.grant(build, audience, role)
            assert isinstance(answer, Refusal) or answer.environment == ""
    upload = examples.grant(build, AUDIENCE, "arn:aws:iam::111111111111:role/shop-upload")
    assert upload.session_tags == {"repository": "acme/shop", "commit": "a" * 40}
    release = examples.grant(build, AUDIENCE, "arn:aws:iam::333333333333:role/shop-release")
    assert release.code == "role_not_mapped"


def test_nothing_of_prod_is_in_reach_of_any_other_environment(examples):
    """Each (kind, role) of prod, or audience where it has no roles, is prod's alone."""
    edges = {
        one.environment: {(grant.target.kind, role) for grant in one.grants for role in grant.roles}
        for one in examples.documents
    }
    assert edges["prod"]
    assert not edges["prod"] & (edges[""] | edges["staging"])
