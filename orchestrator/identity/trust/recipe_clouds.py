"""Recipes for AWS, Google Cloud and Entra, with the limits that each states."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from orchestrator.identity.trust.conditions import Condition
from orchestrator.identity.trust.recipe_parts import (
    Asked,
    Part,
    Recipe,
    at_most,
    impossible,
    json_part,
    shell_part,
    word,
)
from orchestrator.identity.trust.recipe_subjects import ANY

MAX_TRUST_POLICY_CHARS: Final = 2048
"""Quota of an IAM role's trust policy, spaces not counted; it can be raised to 4096."""
MAX_AWS_AUDIENCE: Final = 255
SHORTEST_AWS_ROLE_SESSION: Final = 3600
"""Least MaxSessionDuration of a role; a session itself may be shorter."""
MAX_GCP_AUDIENCE: Final = 256
MAX_GCP_CONDITION: Final = 4096
MAX_GCP_ATTRIBUTES: Final = 50
MAX_ENTRA_SUBJECT: Final = 600
MAX_ENTRA_NAME: Final = 120

_SAME_SUBJECT: Final = "another grant of this audience for the same subject is as good here, whatever role it is for: "

_GCP_PROVIDER: Final = re.compile(
    r"(?:https:)?//iam\.googleapis\.com/projects/([0-9]+)/locations/global/workloadIdentityPools/([^/]+)/providers/([^/]+)"
)


def aws(asked: Asked) -> Recipe:
    """IAM OIDC provider and one trust policy for all roles of the grant (IAM user guide, OIDC federation)."""
    grant = asked.grant
    at_most(MAX_AWS_AUDIENCE, asked.audience, "the audience", "choose a shorter one for this target")
    provider = urlsplit(asked.issuer).netloc + urlsplit(asked.issuer).path
    subjects = asked.subjects
    whose = {f"{provider}:sub": _one_or_list(subjects.patterns)}
    same = {f"{provider}:aud": asked.audience} | _request_tags(asked)
    condition = {"StringEquals": same | whose} if subjects.exact else {"StringEquals": same, "StringLike": whose}
    partition, account = _account(grant.roles)
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{provider}"},
                "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
                "Condition": condition,
            }
        ],
    }
    part = json_part("trust policy of the role (trust-policy.json)", policy)
    at_most(
        MAX_TRUST_POLICY_CHARS,
        re.sub(r"\s+", "", part.text),
        "the trust policy",
        "have fewer repositories in one grant, or a shorter public URL",
    )
    seconds = max(grant.target.session_seconds, SHORTEST_AWS_ROLE_SESSION)
    roles = grant.roles or ("ROLE",)
    return Recipe(
        grant.rule,
        "aws",
        (
            shell_part("identity provider, once in an account", "aws iam create-open-id-connect-provider",
                       f"--url {word(asked.issuer)}", f"--client-id-list {word(asked.audience)}"),
            part,
            *(
                shell_part(f"role {role.rpartition('/')[2]}", "aws iam create-role",
                           f"--role-name {word(role.rpartition('/')[2])}", f"--max-session-duration {seconds}",
                           "--assume-role-policy-document file://trust-policy.json")
                for role in roles
            ),
        ),
        tuple(_aws_notes(asked)),
    )  # fmt: skip


def _request_tags(asked: Asked) -> dict[str, Any]:
    """Session tags whose values the grant fixes: the only way in which AWS can see more of a token than its subject."""
    given = {one.claim: one for one in asked.grant.conditions if one.exact}
    found: dict[str, Any] = {}
    for key, tag in asked.grant.session_tags.items():
        values = (tag.value,) if tag.value else tuple(sorted(given[tag.claim].values)) if tag.claim in given else ()
        if values:
            found[f"aws:RequestTag/{key}"] = _one_or_list(values)
    return found


def _aws_notes(asked: Asked) -> list[str]:
    notes = [
        "AWS looks at subject, audience and session tags only; the rest of the grant is judged by the trust map",
        f"AWS takes a token {asked.grant.target.slack_seconds} s after its end; no role can forbid sessions of an hour",
    ]
    if not asked.subjects.exact:
        notes.append("the subject has wildcards: pin caller_issuer, repository, repository_owner_id and repository_id, "
                     "or give an exact one with --subject")  # fmt: skip
    if asked.subjects.open_issuer and not asked.subject:
        notes.append("no caller_issuer is pinned: equal ids from two issuers of callers look the same to AWS")
    notes.append(f"{_SAME_SUBJECT}keep the two apart by a session tag with a value of its own in each, checked above")
    return notes


def _account(roles: tuple[str, ...]) -> tuple[str, str]:
    found = {tuple(role.split(":")[1:5:3]) for role in roles}
    if len(found) > 1:
        raise impossible("the grant has roles of several AWS accounts, which have a provider each",
                         "write a grant for each account")  # fmt: skip
    partition, account = found.pop() if found else ("aws", "ACCOUNT_ID")
    return partition, account


def _one_or_list(values: tuple[str, ...]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def gcp(asked: Asked) -> Recipe:
    """Workload identity pool provider (IAM REST reference, OIDC), and who may become the grant's service accounts."""
    grant = asked.grant
    at_most(MAX_GCP_AUDIENCE, asked.audience, "the audience", "choose a shorter one for this target")
    shown = asked.claims()
    condition = at_most(
        MAX_GCP_CONDITION,
        " && ".join(map(cel_condition, shown)),
        "the attribute condition",
        "have fewer values in the grant's conditions",
    )
    # Only claims that every token of the grant has: mapping one that is missing refuses the token.
    claims = dict.fromkeys(("trust_rule", "job_id", *(one.claim for one in shown), *(["role"] if grant.roles else [])))
    claims.pop("attempt", None)  # a number, which no attribute can be
    mapping = {"google.subject": "assertion.sub"} | {f"attribute.{claim}": f"assertion.{claim}" for claim in claims}
    if len(mapping) > MAX_GCP_ATTRIBUTES:
        raise impossible(f"the grant needs more than {MAX_GCP_ATTRIBUTES} attributes", "have fewer conditions")
    found = _GCP_PROVIDER.fullmatch(asked.audience)
    project, pool, provider = found.groups() if found else ("PROJECT_NUMBER", "POOL", "PROVIDER")
    document = {
        "attributeMapping": mapping,
        "attributeCondition": condition,
        "oidc": {"issuerUri": asked.issuer, "allowedAudiences": [asked.audience]},
    }
    place = f"locations/global/workloadIdentityPools/{pool}"
    create = shell_part(
        "the same by the command line",
        f"gcloud iam workload-identity-pools providers create-oidc {word(provider)}",
        f"--location=global --workload-identity-pool={word(pool)}",
        f"--issuer-uri={word(asked.issuer)}",
        f"--allowed-audiences={word(asked.audience)}",
        f"--attribute-mapping={word(','.join(f'{name}={value}' for name, value in mapping.items()))}",
        f"--attribute-condition={word(condition)}",
    )
    members = (
        shell_part(f"who may become {role}", f"gcloud iam service-accounts add-iam-policy-binding {word(role)}",
                   "--role=roles/iam.workloadIdentityUser",
                   f"--member={word(f'principalSet://iam.googleapis.com/projects/{project}/{place}/attribute.role/{role}')}")
        for role in grant.roles
    )  # fmt: skip
    notes = ["a provider has one condition: put those of further grants beside it with ||, or make a provider for each"]
    if not found:
        notes.append("the audience is none of a provider: replace PROJECT_NUMBER, POOL and PROVIDER")
    return Recipe(grant.rule, "gcp", (json_part("provider (provider.json)", document), create, *members), tuple(notes))


def cel_condition(condition: Condition, of: str = "assertion") -> str:
    """A condition in the Common Expression Language, about `of`; false, or an error, for a claim that is missing."""
    claim = f"{of}.{condition.claim}" if condition.claim != "attempt" else f"string({of}.attempt)"
    if condition.glob is not None:
        return f"{claim}.matches({_cel(_re2(condition.glob.pattern))})"
    values = sorted(condition.values)
    if len(values) == 1:
        return f"{claim} == {_cel(values[0])}"
    return f"{claim} in [{', '.join(map(_cel, values))}]"


def _re2(pattern: str) -> str:
    r"""A glob as an RE2 expression for the whole text; `\z` because `$` is for lines."""
    pieces = re.split(r"([*]+)", pattern)
    wild = {"": "", "*": "[^/]*"}
    text = "".join(wild.get(piece, "(?s:.*)") if piece.startswith("*") else re.escape(piece) for piece in pieces)
    return rf"\A{text}\z"


def _cel(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def azure(asked: Asked) -> Recipe:
    """Federated identity credential of an application (Microsoft Graph v1.0, federatedIdentityCredential)."""
    grant = asked.grant
    subjects = asked.subjects
    if not subjects.exact or len(subjects.patterns) != 1:
        raise impossible(
            f"Entra wants one exact subject, and the jobs of {grant.rule} may have "
            f"{' or '.join(subjects.patterns).replace(ANY, '…')}",
            "pin caller_issuer, repository, repository_owner_id and repository_id by equals, or give --subject",
        )
    (subject,) = subjects.patterns
    at_most(MAX_ENTRA_SUBJECT, subject, "the subject", "give shorter names")
    name = re.sub(r"[^A-Za-z0-9-]+", "-", grant.rule).strip("-")
    document = {
        "name": at_most(MAX_ENTRA_NAME, name, "the credential's name", "give the grant a shorter name"),
        "issuer": asked.issuer,
        "subject": subject,
        "audiences": [asked.audience],
        "description": f"jobs of {grant.rule}",
    }
    clients = grant.roles or ("CLIENT_ID",)
    parts: list[Part] = [json_part("federated credential (credential.json)", document)]
    parts += [
        shell_part(f"application {client}", "az ad app federated-credential create", f"--id {word(client)}",
                   "--parameters credential.json")
        for client in clients
    ]  # fmt: skip
    notes = (
        "Entra looks at issuer, subject and audience only; what else the grant asks is asked by the trust map",
        f"{_SAME_SUBJECT}give each an audience or an environment of its own",
        "Entra takes RS256 only: leave identity.audiences.*.algorithm as it is",
        "a new credential takes minutes to be known everywhere (AADSTS70021 until then); 20 at most for an application",
    )
    return Recipe(grant.rule, "azure", tuple(parts), notes)
