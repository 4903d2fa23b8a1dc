"""Recipes for Vault and OpenBao, step-ca, the Kubernetes API server, GitHub Apps, and whoever reads the token."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import yaml

from orchestrator.identity.trust.conditions import Comparison, Condition
from orchestrator.identity.trust.recipe_clouds import cel_condition
from orchestrator.identity.trust.recipe_parts import Asked, Part, Recipe, impossible, json_part, shell_part, word

DISCOVERY: Final = "/.well-known/openid-configuration"


def vault(asked: Asked) -> Recipe:
    """A role for each role of the grant (API documentation of `auth/jwt`)."""
    grant = asked.grant
    shown = asked.claims()
    globs = any(one.glob is not None for one in shown)
    bound: dict[str, Any] = {}
    for one in shown:
        values = [re.sub(r"[*]+", "*", one.glob.pattern)] if one.glob is not None else sorted(one.values)
        if globs and one.glob is None and any("*" in value for value in values):
            raise impossible(
                f"{one.claim} may have the value {values[0]!r}, and Vault would read its * as a wildcard",
                "do not have a matches condition in the same grant",
            )
        bound[one.claim] = values[0] if len(values) == 1 else values
    roles = grant.roles or ("ROLE",)
    parts: list[Part] = [
        shell_part("the method, once", f"vault write auth/jwt/config oidc_discovery_url={word(asked.issuer)}"),
    ]
    for role in roles:
        document = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": [asked.audience],
            "bound_claims_type": "glob" if globs else "string",
            "bound_claims": bound | ({"role": role} if grant.roles else {}),
            "claim_mappings": {"job_id": "job_id", "trust_rule": "trust_rule"},
            "token_policies": [role],
            "token_ttl": grant.target.session_seconds,
            "token_max_ttl": grant.target.session_seconds,
            "token_no_default_policy": True,
        }
        parts.append(json_part(f"role {role} ({role}.json)", document))
        parts.append(shell_part(f"write role {role}", f"vault write auth/jwt/role/{word(role)} @{word(role)}.json"))
    notes = [f"Vault takes a token until {grant.target.slack_seconds} s after its end (clock_skew_leeway)"]
    if globs:
        notes.append("a * of Vault's also matches /, where one * of the trust map does not; trust_rule holds the line")
    return Recipe(grant.rule, "vault", tuple(parts), tuple(notes))


def step_ca(asked: Asked) -> Recipe:
    """An OIDC provisioner (step-ca, `authority.provisioners`) whose template refuses what the grant does not give."""
    grant = asked.grant
    life = f"{grant.target.session_seconds}s"
    refusals = "".join(
        f"{{{{ if ne (toString .Token.{one.claim}) {_go(value)} }}}}{{{{ fail \"{one.claim}\" }}}}{{{{ end }}}}"
        for one in asked.claims() if one.exact and len(one.values) == 1 for value in one.values
    )  # fmt: skip
    template = (
        f'{refusals}{{"subject": {{"commonName": {{{{ toJson .Token.job_id }}}}}}, '
        '"sans": [{"type": "uri", "value": {{ printf "%s/jobs/%s" .Token.iss .Token.job_id | toJson }}}], '
        '"keyUsage": ["digitalSignature"], "extKeyUsage": ["clientAuth"]}'
    )
    document = {
        "type": "OIDC",
        "name": grant.rule,
        "clientID": asked.audience,
        "configurationEndpoint": asked.issuer + DISCOVERY,
        "claims": {"minTLSCertDuration": "1m", "maxTLSCertDuration": life, "defaultTLSCertDuration": life,
                   "disableRenewal": True},
        "options": {"x509": {"template": template}},
    }  # fmt: skip
    notes = (
        "step-ca takes each token once, by its nonce: ask for a new one for each certificate",
        "it does not ask for an expiry; our tokens always have one",
        (
            f"a certificate lives {life}, but a job may ask for one that begins in years; step-ca cannot forbid it: "
            "have the signing authority's own certificate end soon; receipts call the end unknown"
        ),
        "a provisioner is named by its client id: two grants of one audience need one template for both",
    )
    return Recipe(grant.rule, "step-ca", (json_part("provisioner", document),), notes)


def _go(value: str) -> str:
    """A string of Go's. JSON's are the same, but for pairs of surrogates, which Go does not know."""
    return json.dumps(value, ensure_ascii=False)


def kubernetes(asked: Asked) -> Recipe:
    """The API server's structured authentication (`apiserver.config.k8s.io`), and a binding for each group."""
    grant = asked.grant
    role = [Condition("role", Comparison.ONE_OF, frozenset(grant.roles))] if grant.roles else []
    rules = [
        {"expression": cel_condition(one, "claims"), "message": f"{one.claim} is not of the grant"}
        for one in (*asked.claims(), *role)
    ]
    mappings: dict[str, Any] = {
        "username": {"expression": "'runner:' + claims.sub"},
        "extra": [
            {"key": "orchestrator.dev/job-id", "valueExpression": "claims.job_id"},
            {"key": "orchestrator.dev/trust-rule", "valueExpression": "claims.trust_rule"},
        ],
    }
    if grant.roles:
        mappings["groups"] = {"expression": "[claims.role]"}
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1beta1",
        "kind": "AuthenticationConfiguration",
        "jwt": [
            {
                "issuer": {"url": asked.issuer, "audiences": [asked.audience]},
                "claimValidationRules": rules,
                "claimMappings": mappings,
                "userValidationRules": [
                    {"expression": "!user.username.startsWith('system:')", "message": "no user"},
                    {
                        "expression": "user.groups.all(group, !group.startsWith('system:'))",
                        "message": "no system group",
                    },
                ],
            }
        ],
    }
    parts = [_yaml_part("file of --authentication-config", document)]
    for group in grant.roles:
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": re.sub(r"[^a-z0-9-]+", "-", group), "namespace": "NAMESPACE"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "ROLE"},
        }
        parts.append(_yaml_part(f"rights of the group {group}", binding))
    notes = (
        "an issuer stands in this file once: put the rules of further grants beside these with ||",
        f"the API server uses the token itself, and may remember it {grant.target.slack_seconds} s",
    )
    return Recipe(grant.rule, "kubernetes", tuple(parts), notes)


def _yaml_part(title: str, document: Any) -> Part:
    return Part(title, "yaml", yaml.safe_dump(document, sort_keys=False, width=118).rstrip("\n"))


def oidc(asked: Asked) -> Recipe:
    """What any verifier has to check (OpenID Connect Core 3.1.3.7), and an RFC 8693 endpoint besides."""
    grant = asked.grant
    claims: dict[str, Any] = {one.claim: one.as_json() for one in asked.claims()}
    if grant.roles:
        claims["role"] = {"one_of": list(grant.roles)}
    document = {
        "issuer": asked.issuer,
        "discovery": asked.issuer + DISCOVERY,
        "audience": asked.audience,
        "algorithms": ["RS256", "ES256"],
        "required": ["iss", "aud", "exp", "iat", "sub", "jti"],
        "claims": claims,
        "leeway_seconds": grant.target.slack_seconds,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    notes = (
        "who can should ask the introspection endpoint, too: from its job's recorded end on a token does not count",
        "aud is one text, never a list; sub has at most 127 bytes",
    )
    return Recipe(grant.rule, "oidc", (json_part("what to check", document),), notes)


def github(asked: Asked) -> Recipe:
    """The App has to have what the grant gives on, and be installed on that repository (REST, apps)."""
    grant = asked.grant
    document = {
        "permissions": dict(grant.permissions),
        "repository_id": grant.repository_id or "of the job itself",
        "expires": "1 h, or at the job's end",
    }
    notes = ("we make this token ourselves: nothing at GitHub judges ours",)
    return Recipe(grant.rule, "github", (json_part("least permissions of the GitHub App", document),), notes)
