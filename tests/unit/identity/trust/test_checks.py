"""What a map must be before it is asked: pinned, reachable, unambiguous, apart, and as strict as it says."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust import overlaps
from orchestrator.identity.trust.checks import check
from orchestrator.identity.trust.reading import document
from orchestrator.identity.trust.strict import Place
from tests.unit.identity.trust.conftest import PROD, ROLE

OTHER_ROLE = "arn:aws:iam::123456789012:role/other"


def grant(name="other", **changes):
    """A grant for another application."""
    made = {
        "name": name,
        "when": {"repository_id": {"equals": "43"}},
        "target": "aws-prod",
        "roles": [OTHER_ROLE],
        "max_ttl_seconds": 300,
    }
    made |= changes
    return {key: value for key, value in made.items() if value is not None}


def refused(load, *contents, told):
    with pytest.raises(ConfigurationError) as caught:
        load(*contents)
    assert caught.value.reason == "trust_map_invalid"
    assert caught.value.fix
    for words in told if isinstance(told, list) else [told]:
        assert words in caught.value.diagnostics()


# --- pins and reach ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["sub", "role", "trust_rule", "job_id"])
def test_names_that_tokens_use_themselves_are_no_facts(load, prod, claim):
    prod["grants"][0]["when"][claim] = {"equals": "x"}
    refused(load, prod, told=[f"when.{claim} is no fact", "trust-map.md"])


@pytest.mark.parametrize(
    "when",
    [
        {"repository": {"equals": "acme/app"}},
        {"repository": {"equals": "acme/app"}, "workflow_ref": {"matches": "acme/**"}, "actor": {"equals": "a"}},
        {"repository_id": {"matches": "4*"}},
        {"repository_id": {"matches": "**"}},
        {"caller_issuer": {"equals": "https://ci.example"}},
        {"environment": {"equals": "prod"}},
    ],
)
def test_a_grant_pins_an_identity_for_ever(load, prod, when):
    prod["grants"][0]["when"] = when
    refused(load, prod, told=["grants.app-release.when pins no identity", "repository_id", "caller_issuer"])


def test_a_caller_is_pinned_with_its_issuer(load, prod):
    when = prod["grants"][0]["when"] = {"caller": {"equals": "0123456789abcdef"}}
    refused(load, prod, told="pins caller without caller_issuer")
    when["caller_issuer"] = {"equals": "https://ci.example"}
    assert load(prod).unscoped == ()


def test_an_id_without_its_issuer_is_told(load, prod):
    assert load(prod).unscoped == ("prod/app-release",)


@pytest.mark.parametrize(
    ("claim", "condition", "told"),
    [
        ("environment", {"equals": "staging"}, "this document is for 'prod'"),
        ("environment", {"matches": "stag*"}, "this document is for 'prod'"),
        ("ref_protected", {"equals": "yes"}, "ref_protected wants 'yes', which no job has"),
        ("trust_tier", {"one_of": ["protected", "high"]}, "trust_tier wants 'high', which no job has"),
        ("trust_tier", {"matches": "x*"}, "which no job has"),
        ("trust_tier", {"equals": "untrusted"}, "grants something to the tier untrusted"),
        ("trust_tier", {"matches": "*t*"}, "grants something to the tier untrusted"),
        ("backend", {"equals": "docker"}, "one of kubernetes, sandbox"),
        ("runner_image_digest", {"equals": "latest"}, "which no job has"),
        ("artifact_digest", {"equals": "sha256:" + "A" * 64}, "which no job has"),
        ("caller", {"equals": "somebody"}, "which no job has"),
        ("attempt", {"equals": "0"}, "which no job has"),
    ],
)
def test_a_condition_that_no_job_can_fulfil_is_refused(load, prod, claim, condition, told):
    prod["grants"][0]["when"][claim] = condition
    refused(load, prod, told=told)


def test_jobs_that_deploy_nowhere_have_no_environment_to_ask_for(load, prod):
    prod["environment"] = ""
    prod["grants"][0]["when"]["environment"] = {"matches": "**"}
    refused(load, prod, told="this document is for 'no environment'")
    del prod["grants"][0]["when"]["environment"]
    prod["grants"][0]["session_tags"]["env"] = {"claim": "environment"}
    refused(load, prod, told="this document is for 'no environment'")


def test_a_tag_that_a_listed_value_cannot_be_is_refused(load, prod):
    prod["grants"][0]["when"]["repository"] = {"one_of": ["acme/app", "acme/app;1"]}
    refused(load, prod, told=["takes the claim repository, which may be 'acme/app;1'", "leave the tag out"])


# --- protected ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "condition"),
    [
        ("ref_protected", None),
        ("ref_protected", {"one_of": ["true", "false"]}),
        ("ref_protected", {"matches": "*e"}),
        ("trust_tier", None),
        ("trust_tier", {"one_of": ["standard", "protected"]}),
        ("trust_tier", {"equals": "standard"}),
    ],
)
def test_a_protected_document_wants_protected_refs_and_pools(load, prod, claim, condition):
    prod["protected"] = True
    when = prod["grants"][0]["when"]
    when["caller_issuer"] = {"equals": "https://ci.example"}
    load(prod)
    when.pop(claim)
    if condition:
        when[claim] = condition
    refused(load, prod, told=[f"when.{claim} may be", f"require {claim} to equal"])


def test_a_protected_document_pins_the_issuer_too(load, prod):
    load(prod)
    refused(load, prod | {"protected": True}, told="does not pin caller_issuer in a protected document")


def test_a_protected_document_pins_more_than_an_owner(load, prod):
    when = prod["grants"][0]["when"]
    when["caller_issuer"] = {"equals": "https://ci.example"}
    when["repository_owner_id"] = when.pop("repository_id")
    prod["shared_roles"] = [ROLE]
    load(prod)
    refused(load, prod | {"protected": True}, told="pins no more than an owner")


# --- never two for one job -----------------------------------------------------------------------------------------


def test_names_of_grants_and_environments_are_unique(load, prod):
    prod["grants"].append(grant("app-release"))
    refused(load, prod, told="grants.1.name is 'app-release' for the second time")
    prod["grants"].pop()
    refused(load, prod, copy.deepcopy(prod), told="environment is 'prod', as in")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ({}, ["other has the same conditions as app-release"]),
        ({"ref": {"equals": "refs/heads/release/1"}}, ["both match every job of other", "have app-release require"]),
        ({"ref": {"matches": "refs/heads/**"}}, ["both match every job of app-release", "have other require"]),
        ({"ref": {"matches": "**/release/1*"}}, ["could both match one job", "values that exclude each other"]),
        ({"actor_id": {"equals": "7"}}, ["both match every job of other"]),
        ({"ref": None, "actor_id": {"equals": "7"}}, ["could both match one job"]),
        ({"repository_id": {"one_of": ["42", "43"]}}, ["both match every job of app-release"]),
    ],
)
@pytest.mark.parametrize("roles", [[ROLE], [ROLE, OTHER_ROLE], None])
def test_two_grants_that_could_both_match_are_refused(load, prod, when, roles, told):
    prod["shared_roles"] = [ROLE, OTHER_ROLE]
    for key in ("session_tags", "transitive"):  # a tag implies a condition of its own
        del prod["grants"][0][key]
    both = copy.deepcopy(prod["grants"][0]["when"]) | when
    both = {claim: condition for claim, condition in both.items() if condition}
    prod["grants"].append(grant(when=both, roles=roles))
    refused(load, prod, told=told)


@pytest.mark.parametrize(
    "when",
    [
        {"ref": {"equals": "refs/heads/main"}},
        {"ref": {"matches": "refs/heads/rel-*"}},
        {"ref": {"matches": "refs/tags/**"}},
        {"repository_id": {"equals": "43"}},
        {"trust_tier": {"equals": "standard"}},
    ],
)
def test_two_grants_that_exclude_each_other_are_fine(load, prod, when):
    prod["shared_roles"] = [ROLE]
    prod["grants"].append(grant(when=copy.deepcopy(prod["grants"][0]["when"]) | when, roles=[ROLE]))
    assert len(load(prod).documents[0].grants) == 2


def test_roles_tell_two_grants_apart(load, prod):
    prod["grants"].append(grant(when=prod["grants"][0]["when"]))
    assert len(load(prod).documents[0].grants) == 2


def test_grants_found_by_different_pins_are_compared_too(load, prod):
    prod["shared_roles"] = [ROLE]
    owner = {"repository_owner_id": {"equals": "1"}}
    prod["grants"].append(grant(when=owner, roles=[ROLE]))
    refused(load, prod, told="could both match one job")


def test_what_would_take_too_long_to_compare_is_refused(load, prod, monkeypatch):
    first = prod["grants"][0]
    prod["shared_roles"] = [ROLE]
    prod["grants"] = [
        copy.deepcopy(first) | {"name": f"g{number}", "when": first["when"] | {"ref": {"matches": f"**a*{number}"}}}
        for number in range(5)
    ]
    load(prod)
    monkeypatch.setattr(overlaps, "MAX_COMPARED", 9)
    refused(load, prod, told=["grants has too many grants of one identity", "equals or one_of"])
    monkeypatch.setattr(overlaps, "MAX_COMPARED", 10)
    load(prod)
    monkeypatch.setattr(overlaps, "MAX_PAIRS", 9)
    refused(load, prod, told="grants has too many grants of one identity")


# --- one application, one environment (M-140) ---------------------------------------------------------------------


def test_two_applications_do_not_share_a_role(load, prod):
    prod["grants"].append(grant(roles=[ROLE]))
    refused(
        load, prod, told=["for several applications (prod/app-release)", "each application, environment and action"]
    )
    prod["shared_roles"] = [ROLE]
    load(prod)


@pytest.mark.parametrize(
    "when", [{"repository_id": {"one_of": ["42", "43"]}}, {"repository_owner_id": {"equals": "1"}}]
)
def test_nor_does_one_grant_give_a_role_to_several(load, prod, when):
    prod["grants"] = [grant(when=when)]
    refused(load, prod, told="for several applications")
    prod["shared_roles"] = [OTHER_ROLE]
    load(prod)


def test_one_id_of_two_issuers_is_two_applications(load, prod):
    first = prod["grants"][0]
    first["when"]["caller_issuer"] = {"equals": "https://ci.example"}
    second = copy.deepcopy(first) | {"name": "other"}
    second["when"]["caller_issuer"] = {"equals": "https://forge.example"}
    prod["grants"].append(second)
    refused(load, prod, told="for several applications")
    prod["grants"].pop()
    load(prod)
    first["when"]["caller_issuer"] = {"one_of": ["https://ci.example", "https://forge.example"]}
    refused(load, prod, told="for several applications")


def test_two_environments_do_not_share_a_role(load, prod):
    staging = copy.deepcopy(prod) | {"environment": "staging"}
    staging["targets"]["aws-prod"]["audience"] = "sts.example"  # an AWS role is the same under any audience
    refused(
        load, prod, staging, told=["which prod/app-release of another environment has, too", "for each environment"]
    )
    for content in (prod, staging):
        content["shared_roles"] = [ROLE]
    load(prod, staging)
    prod["protected"] = True
    prod["grants"][0]["when"]["caller_issuer"] = {"equals": "https://ci.example"}
    refused(load, prod, staging, told="of another environment has, too")


def test_roles_of_other_targets_are_their_own(load, prod):
    """Two Vaults may each have a role of one name."""
    contents = []
    for environment in ("prod", "staging"):
        content = copy.deepcopy(prod) | {"environment": environment}
        content["targets"] = {"vault": {"kind": "vault", "audience": environment, "session_seconds": 60}}
        content["grants"] = [grant(target="vault", roles=["app"])]
        contents.append(content)
    load(*contents)
    contents[1]["targets"]["vault"]["audience"] = "prod"
    refused(load, *contents, told="of another environment has, too")


def test_a_protected_environment_shares_no_audience_without_roles(load, prod):
    contents = []
    for environment in ("", "prod"):
        content = copy.deepcopy(prod) | {"environment": environment}
        content["targets"] = {"there": {"kind": "oidc", "audience": "https://deploy.example"}}
        content["grants"] = [grant(target="there", roles=None, when=prod["grants"][0]["when"])]
        contents.append(content)
    load(*contents)
    contents[1]["protected"] = True
    contents[1]["grants"][0]["when"]["caller_issuer"] = {"equals": "https://ci.example"}
    refused(load, *contents, told=["without a role, as -/other of another environment", "an audience of its own"])


# --- stricter_than (M-99) -------------------------------------------------------------------------------------------


@pytest.fixture
def staging():
    content = copy.deepcopy(PROD) | {"environment": "staging", "issuer": "main"}
    content["grants"][0] |= {"name": "app-deploy", "roles": [OTHER_ROLE]}
    return content


def test_a_document_as_strict_as_the_other_is_fine(load, prod, staging):
    prod["stricter_than"] = "staging"
    load(prod, staging)


@pytest.mark.parametrize(
    ("claim", "condition", "told"),
    [
        ("ref", None, "when does not require ref, unlike staging/app-deploy"),
        ("trust_tier", {"one_of": ["standard", "protected"]}, "trust_tier allows standard, which none of staging"),
        ("ref_protected", {"one_of": ["true", "false"]}, "ref_protected allows false, which none of staging"),
    ],
)
def test_what_the_other_demands_is_demanded_here(load, prod, staging, claim, condition, told):
    prod["stricter_than"] = "staging"
    when = prod["grants"][0]["when"]
    when.pop(claim)
    if condition:
        when[claim] = condition
    refused(load, prod, staging, told=told)


def test_lives_are_no_longer_than_there(load, prod, staging):
    prod["stricter_than"] = "staging"
    prod["grants"][0]["max_ttl_seconds"] = 301
    refused(
        load,
        prod,
        staging,
        told=["max_ttl_seconds is 301, longer than 300, the longest of staging/", "300 or less"],
    )
    prod["grants"][0]["max_ttl_seconds"] = 300
    prod["targets"]["aws-prod"]["session_seconds"] = 901
    refused(load, prod, staging, told="with session_seconds 901, longer than 900")


def test_permissions_are_no_more_than_there(load, prod, staging):
    prod["stricter_than"] = "staging"
    for content in (prod, staging):
        content["targets"] = {"source": {"kind": "github", "audience": "github:acme"}}
        when = content["grants"][0]["when"]
        content["grants"] = [{"name": "a", "when": when, "target": "source", "permissions": {"contents": "write"}}]
    load(prod, staging)
    for wider in ({"contents": "admin"}, {"contents": "read", "issues": "read"}):
        prod["grants"][0]["permissions"] = wider
        refused(load, prod, staging, told=["more than any of staging/a has", "fix: give it"])
    prod["grants"][0]["permissions"] = {"contents": "read"}
    load(prod, staging)


def test_an_application_that_the_other_does_not_know_is_held_against_all(load, prod, staging):
    prod["stricter_than"] = "staging"
    prod["grants"][0]["when"]["repository_id"] = {"equals": "99"}
    load(prod, staging)
    del prod["grants"][0]["when"]["ref_protected"]
    refused(load, prod, staging, told="does not require ref_protected")


def test_what_another_application_has_to_show_there_is_not_asked_here(load, prod, staging):
    prod["stricter_than"] = "staging"
    other = grant(when={"repository_id": {"equals": "43"}, "actor_id": {"equals": "7"}}, roles=[f"{ROLE}-43"])
    staging["grants"].append(other)
    load(prod, staging)
    staging["grants"][0]["when"]["actor_id"] = {"equals": "7"}
    refused(load, prod, staging, told="does not require actor_id, unlike staging/app-deploy")


@pytest.mark.parametrize("other", ["prod", "nowhere", ""])
def test_the_other_has_to_be_another_one(load, prod, staging, other):
    prod["stricter_than"] = other
    refused(load, prod, staging, told=f"stricter_than names no other document: {other!r}")


CLAIMS = ("ref", "ref_protected", "trust_tier", "actor_id")
CONDITIONS = {
    "ref": ({"matches": "refs/**"},),
    "ref_protected": ({"equals": "true"}, {"one_of": ["true", "false"]}),
    "trust_tier": ({"equals": "protected"}, {"equals": "standard"}, {"one_of": ["standard", "protected"]}),
    "actor_id": ({"equals": "1"},),
}
whens = st.fixed_dictionaries(
    {"repository_id": st.sampled_from([{"equals": "42"}, {"equals": "43"}])},
    optional={claim: st.sampled_from(CONDITIONS[claim]) for claim in CLAIMS},
)


@st.composite
def pairs(draw):
    """A prod and a staging document with up to two grants each."""
    contents = []
    for environment in ("prod", "staging"):
        content = copy.deepcopy(PROD) | {"environment": environment}
        content["targets"]["aws-prod"]["session_seconds"] = draw(st.sampled_from([900, 3600]))
        content["grants"] = [
            grant(f"g{number}", when=draw(whens), max_ttl_seconds=draw(st.sampled_from([60, 300])),
                  roles=[f"arn:aws:iam::123456789012:role/{environment}-{number}"])
            for number in range(draw(st.integers(1, 2)))
        ]  # fmt: skip
        contents.append(content)
    contents[0]["stricter_than"] = "staging"
    return contents


@given(pairs())
def test_what_passes_as_stricter_lives_no_longer_and_wants_no_less(contents):
    """The monotony of M-99, said in another way than the checker does."""
    prod, staging = (document(content, Place("x")) for content in contents)
    try:
        check([prod, staging])
    except ConfigurationError:
        return
    for mine in prod.grants:
        same = [one for one in staging.grants if one.key.values == mine.key.values]
        assert mine.max_ttl_seconds <= max(one.max_ttl_seconds for one in same or staging.grants)
        assert mine.target.session_seconds <= max(one.target.session_seconds for one in staging.grants)
        wanted = {one.claim for one in mine.conditions if not one.implied}
        for other in same:
            assert wanted >= {one.claim for one in other.conditions if not one.implied}
        everywhere = [{one.claim for one in each.conditions if not one.implied} for each in staging.grants]
        assert wanted >= set.intersection(*everywhere)
