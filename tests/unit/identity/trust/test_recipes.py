"""Recipes: what they say, what they refuse to say, and that they fit the subjects that jobs really have."""

from __future__ import annotations

import dataclasses
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.errors import ConfigurationError
from orchestrator.identity.claims import MAX_SUBJECT_BYTES, issuer_tag, subject
from orchestrator.identity.trust.conditions import Comparison, Condition
from orchestrator.identity.trust.document import GrantRule
from orchestrator.identity.trust.globs import Glob
from orchestrator.identity.trust.recipe_clouds import cel_condition
from orchestrator.identity.trust.recipe_subjects import subjects_of
from orchestrator.identity.trust.recipes import recipe
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.model.job import Caller

URL = "https://runners.example"
CI = "https://ci.example"
PROVIDER = (
    "https://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/runners/providers/prod"
)
TARGETS: dict[str, dict[str, Any]] = {
    "aws": {"kind": "aws", "audience": "sts.amazonaws.com", "session_seconds": 900},
    "gcp": {"kind": "gcp", "audience": PROVIDER},
    "azure": {"kind": "azure", "audience": "api://AzureADTokenExchange"},
    "vault": {"kind": "vault", "audience": "https://vault.example", "session_seconds": 300},
    "ca": {"kind": "step-ca", "audience": "https://ca.example"},
    "cluster": {"kind": "kubernetes", "audience": "https://cluster.example"},
    "any": {"kind": "oidc", "audience": "https://deploy.example"},
    "github": {"kind": "github", "audience": "github:acme"},
}
ROLES = {
    "aws": ["arn:aws:iam::123456789012:role/app-release"],
    "gcp": ["release@shop-prod.iam.gserviceaccount.com"],
    "azure": ["11111111-2222-3333-4444-555555555555"],
    "vault": ["app-release"],
    "cluster": ["deployers"],
}
WHO = {
    "caller_issuer": {"equals": CI},
    "repository": {"equals": "acme/shop"},
    "repository_id": {"equals": "42"},
    "repository_owner_id": {"equals": "1"},
    "ref": {"matches": "refs/heads/release/*"},
}
CALLER = "0123456789abcdef"
DISPATCHER = {"caller": {"equals": CALLER}, "caller_issuer": {"equals": CI}}
SUBJECT = f"from:{issuer_tag(CI)}:repo:acme@1/shop@42:environment:prod"


@pytest.fixture
def grant(tmp_path: Path):
    def make(target: str, when: dict[str, Any] | None = None, environment: str = "prod", **more: Any) -> GrantRule:
        own: dict[str, Any] = {"roles": ROLES[target]} if target in ROLES else {}
        own |= {"permissions": {"contents": "read"}} if target == "github" else {"max_ttl_seconds": 300}
        entry = {"name": "app", "when": WHO if when is None else when, "target": target} | own | more
        document = {"trust_map": 1, "environment": environment, "grants": [entry],
                    "targets": {target: TARGETS[target]}}  # fmt: skip
        for name in ("issuer", "shared_roles"):
            if name in entry:
                document[name] = entry.pop(name)
        (tmp_path / "map.yaml").write_text(yaml.safe_dump(document))
        return TrustMap.load([tmp_path / "map.yaml"]).documents[0].grants[0]

    return make


def first(found: Any, language: str) -> Any:
    text = next(part.text for part in found.parts if part.language == language)
    return json.loads(text) if language == "json" else yaml.safe_load(text) if language == "yaml" else text


def test_aws_trusts_one_subject_one_audience_and_the_fixed_tags(grant):
    found = recipe(grant("aws", session_tags={"repository": {"claim": "repository"}, "stage": {"value": "prod"},
                                              "ref": {"claim": "ref"}}), URL)  # fmt: skip
    (statement,) = first(found, "json")["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Federated": "arn:aws:iam::123456789012:oidc-provider/runners.example"},
        "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
        "Condition": {
            "StringEquals": {
                "runners.example:aud": "sts.amazonaws.com",
                "aws:RequestTag/repository": "acme/shop",
                "aws:RequestTag/stage": "prod",
                "runners.example:sub": SUBJECT,
            }
        },
    }
    assert first(found, "sh").startswith("aws iam create-open-id-connect-provider")
    assert any("whatever role it is for" in note for note in found.notes)


def test_aws_with_an_open_subject_warns_and_never_trusts_any(grant):
    found = recipe(
        grant("aws", {"repository_id": {"one_of": ["42", "43"]}}, issuer="prod", shared_roles=ROLES["aws"]), URL
    )
    condition = first(found, "json")["Statement"][0]["Condition"]
    assert condition["StringLike"] == {
        "runners.example/issuers/prod:sub": [
            "from:*:repo:*@42:environment:prod",
            "from:*:repo-id:42:environment:prod",
            "from:*:repo:*@43:environment:prod",
            "from:*:repo-id:43:environment:prod",
        ]
    }
    assert any("wildcards" in note for note in found.notes)
    assert any("two issuers of callers" in note for note in found.notes)


def test_roles_of_two_accounts_have_no_common_provider(grant):
    roles = ["arn:aws:iam::123456789012:role/a", "arn:aws:iam::210987654321:role/a"]
    with pytest.raises(ConfigurationError, match="several AWS accounts"):
        recipe(grant("aws", roles=roles), URL)


def test_gcp_judges_every_claim_that_a_token_shows(grant):
    found = recipe(grant("gcp"), URL)
    provider = first(found, "json")
    assert provider["oidc"] == {"issuerUri": URL, "allowedAudiences": [PROVIDER]}
    assert provider["attributeMapping"]["google.subject"] == "assertion.sub"
    claims = {"caller_issuer": CI, "repository": "acme/shop", "repository_id": "42", "repository_owner_id": "1",
              "ref": "refs/heads/release/1.4", "trust_tier": "protected", "trust_rule": "prod/app",
              "environment": "prod"}  # fmt: skip
    assert judged(provider["attributeCondition"], claims)
    for claim in claims:
        assert not judged(provider["attributeCondition"], claims | {claim: "another"}), claim
        less = {name: value for name, value in claims.items() if name != claim}
        assert not judged(provider["attributeCondition"], less), claim
    member = found.parts[-1].text
    assert "workloadIdentityPools/runners/attribute.role/release@shop-prod" in member


def judged(expression: str, claims: dict[str, str]) -> bool:
    """By the engine that Google Cloud and Kubernetes use, in C++; an error counts as no."""
    environment = cel.NewEnv(variables={"assertion": cel.Type.DYN})
    return environment.compile(expression).eval(data={"assertion": claims}).value() is True


@given(
    st.lists(st.sampled_from(["*", "**", "/", "a", "release", ".", "(", "\\", "$", "'", "ü", "\n"]), min_size=1,
             max_size=6),
    st.lists(st.sampled_from(["/", "a", "release", ".", "(", "\\", "$", "'", "ü", "\n", "x"]), max_size=6),
)  # fmt: skip
def test_a_glob_means_the_same_in_the_common_expression_language(pieces, value):
    pattern, text = re.sub(r"\*{3,}", "**", "".join(pieces) + "*"), "".join(value)
    condition = Condition("ref", Comparison.MATCHES, glob=Glob(pattern))
    assert judged(cel_condition(condition), {"ref": text}) == condition.allows(text)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
"""The engine's binding cuts a text at its first NUL."""


@given(TEXT, TEXT)
def test_values_mean_the_same_in_the_common_expression_language(wanted, found):
    condition = Condition("x", Comparison.ONE_OF, frozenset({wanted, "another"}))
    assert judged(cel_condition(condition), {"x": found}) == condition.allows(found)


def test_entra_wants_one_exact_subject(grant):
    found = recipe(grant("azure"), URL)
    assert first(found, "json") == {
        "name": "prod-app", "issuer": URL, "subject": SUBJECT, "audiences": ["api://AzureADTokenExchange"],
        "description": "jobs of prod/app",
    }  # fmt: skip
    open_ended = grant("azure", {"repository_id": {"equals": "42"}})
    with pytest.raises(ConfigurationError, match="one exact subject") as refused:
        recipe(open_ended, URL)
    assert "--subject" in str(refused.value.fix)
    assert first(recipe(open_ended, URL, SUBJECT), "json")["subject"] == SUBJECT
    with pytest.raises(ConfigurationError, match="no job with the subject"):
        recipe(open_ended, URL, SUBJECT.replace("@42", "@43"))


def test_vault_binds_each_claim(grant):
    role = first(recipe(grant("vault"), URL), "json")
    assert (role["bound_audiences"], role["bound_claims_type"]) == (["https://vault.example"], "glob")
    assert role["bound_claims"]["trust_rule"] == "prod/app"
    assert role["bound_claims"]["ref"] == "refs/heads/release/*"
    assert role["bound_claims"]["role"] == "app-release"
    assert role["token_max_ttl"] == 300
    with pytest.raises(ConfigurationError, match="as a wildcard"):
        recipe(grant("vault", WHO | {"branch": {"equals": "a*b"}}), URL)


def test_kubernetes_and_step_ca_and_anybody_else(grant):
    configuration = first(recipe(grant("cluster"), URL), "yaml")
    (authenticator,) = configuration["jwt"]
    assert authenticator["issuer"] == {"url": URL, "audiences": ["https://cluster.example"]}
    assert "claims.role == 'deployers'" in [rule["expression"] for rule in authenticator["claimValidationRules"]]
    provisioner = first(recipe(grant("ca"), URL), "json")
    assert provisioner["clientID"] == "https://ca.example"
    assert 'ne (toString .Token.trust_rule) "prod/app"' in provisioner["options"]["x509"]["template"]
    unusual = first(recipe(grant("ca", WHO | {"branch": {"equals": 'a"\\\U0001f680'}}), URL), "json")
    template = unusual["options"]["x509"]["template"]
    assert 'ne (toString .Token.branch) "a\\"\\\\\U0001f680"' in template, "as Go reads it"
    checks = first(recipe(grant("any"), URL), "json")
    assert checks["claims"]["trust_rule"] == {"equals": "prod/app"}
    assert first(recipe(grant("github"), URL), "json")["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(
    ("target", "url", "told"),
    [
        ("aws", "https://runners.example:8443", "no issuer with a port"),
        ("aws", "http://runners.example", "without TLS"),
        ("gcp", "http://runners.example", "without TLS"),
        ("any", "https://runners.example/", "a slash at its end"),
        ("any", "https://runners.example?x=1", "a query"),
        ("any", "runners.example", "no http"),
        ("any", "https://" + "a" * 600, "longer than 600"),
    ],
)
def test_what_no_target_takes_is_told_with_its_way_out(grant, target, url, told):
    with pytest.raises(ConfigurationError, match=told) as refused:
        recipe(grant(target), url)
    assert refused.value.reason == "recipe_impossible"
    assert refused.value.fix


def test_a_slash_is_not_doubled_before_an_issuer_of_its_own(grant):
    own = dataclasses.replace(grant("gcp"), issuer="prod")
    assert "https://runners.example/issuers/prod" in recipe(own, "https://runners.example").parts[0].text
    with pytest.raises(ConfigurationError, match="a slash at its end"):
        recipe(own, "https://runners.example/")


def test_limits_of_the_clouds(grant):
    many = {"repository_id": {"one_of": [str(10**15 + number) for number in range(40)]}}
    with pytest.raises(ConfigurationError, match="2048 is the most"):
        recipe(grant("aws", many, shared_roles=ROLES["aws"]), URL)
    long = {**WHO, "ref": {"one_of": [f"refs/heads/{'x' * 100}{number}" for number in range(50)]}}
    with pytest.raises(ConfigurationError, match="4096 is the most"):
        recipe(grant("gcp", long), URL)


PART = st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=30)


@given(PART.filter(lambda text: "/" not in text), PART.filter(lambda text: "/" not in text), PART, PART)
def test_each_subject_of_a_job_fits_its_grant_and_no_other_repositorys_does(owner, name, own_id, owner_id):
    """For the grant that pins everything, and for the one that pins an id alone."""
    facts = {"repository": f"{owner}/{name}", "repository_id": own_id, "repository_owner_id": owner_id}
    told = subject(Caller(CI, "x", facts), "default", "prod")
    other = subject(Caller(CI, "x", facts | {"repository_id": own_id + "0"}), "default", "prod")
    for claims in ({"repository_id": own_id}, facts | {"caller_issuer": CI}):
        found = subjects_of(rule(claims))
        if told.startswith("sha256:"):
            continue
        assert found.fit(told), (told, found)
        assert any(fnmatchcase(told, re.sub(r"([\[?])", r"[\1]", pattern)) for pattern in found.patterns)
        assert other.startswith("sha256:") or not found.fit(other)
        assert all(len(pattern) <= MAX_SUBJECT_BYTES or "*" in pattern for pattern in found.patterns) or not found.exact


def rule(claims: dict[str, str]) -> GrantRule:
    from orchestrator.identity.trust.document import Target

    conditions = tuple(Condition(name, Comparison.EQUALS, frozenset({value})) for name, value in claims.items())
    return GrantRule("app", "prod", conditions, Target("any", "oidc", "a", 0, 60, 900))


@pytest.mark.parametrize(
    ("when", "environment", "patterns"),
    [
        (DISPATCHER, "prod", (f"caller:{CALLER}:environment:prod",)),
        (DISPATCHER, "", (f"caller:{CALLER}:*",)),
        (
            {**DISPATCHER, "ref": {"equals": "refs/heads/a:b"}},
            "",
            (f"caller:{CALLER}:ref:refs/heads/a%3Ab",),
        ),
        ({**DISPATCHER, "ref": {"matches": "refs/**/x"}}, "", (f"caller:{CALLER}:ref:refs/*/x",)),
        ({"repository_owner_id": {"equals": "7"}}, "prod", ("from:*:repo:*@7/*:environment:prod",)),
    ],
)
def test_the_forms_of_subjects(grant, when, environment, patterns):
    assert subjects_of(grant("any", when, environment)).patterns == patterns


def test_the_command_prints_what_can_be_copied(grant, tmp_path):
    grant("aws")
    arguments = ["trust", "recipe", "prod/app", str(tmp_path / "map.yaml"), "--url", URL]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert "# 2. trust policy" in done.stdout
    assert "# note: " in done.stdout
    alone = CliRunner().invoke(app, [*arguments, "--part", "2"])
    assert json.loads(alone.stdout)["Version"] == "2012-10-17"
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["kind"] == "aws"
    assert isinstance(CliRunner().invoke(app, [*arguments, "--part", "9"]).exception, ConfigurationError | SystemExit)
    unknown = CliRunner().invoke(app, ["trust", "recipe", "prod/none", str(tmp_path / "map.yaml"), "--url", URL])
    assert unknown.exit_code != 0
