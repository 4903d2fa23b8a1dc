"""The words of a refusal. Each has four parts: the rule, the input that failed, what it had to be, and the way out.

They go to the job's author: own values are repeated, cut to a bound; of others' grants and roles nothing is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from orchestrator.identity.trust.answers import Refusal
from orchestrator.identity.trust.document import GrantRule, rule_name

MAX_SHOWN_CHARS: Final = 200
_SHOWN_ROLES: Final = 10


def shown(value: str) -> str:
    """A claim's value for people and records: printable, and no longer than the bound."""
    cut = value if len(value) <= MAX_SHOWN_CHARS else f"{value[: MAX_SHOWN_CHARS - 1]}…"
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in cut)


def deploys(environment: str) -> str:
    return f"that deploy to {environment!r}" if environment else "that deploy nowhere"


def no_document(environment: str, audience: str) -> Refusal:
    return Refusal(
        "trust_no_grant",
        rule_name(environment, ""),
        f"the trust map has no document for jobs {deploys(environment)}, so they get no token for {audience!r}",
        "dispatch the job for an environment that has a document, or ask the owners of the trust map for one",
        claim="environment",
        wanted="one that the trust map has a document for",
        found=shown(environment),
    )


def no_audience(environment: str, audience: str) -> Refusal:
    return Refusal(
        "trust_no_grant",
        rule_name(environment, ""),
        f"the trust map grants nobody {audience!r} for jobs {deploys(environment)}",
        "ask for an audience that this environment has a target for, or ask the owners of the trust map for a grant",
        claim="audience",
        wanted="one that a grant of this environment is for",
        found=shown(audience),
    )


def not_pinned(environment: str, audience: str, pins: Iterable[str], facts: Mapping[str, str]) -> Refusal:
    """No grant is for this job's identity, whatever else is true of it."""
    claims = sorted(pins)
    claim = next((one for one in claims if facts.get(one)), claims[0])
    found = shown(facts.get(claim, ""))
    return Refusal(
        "trust_no_grant",
        rule_name(environment, ""),
        f"no grant of {audience!r} for jobs {deploys(environment)} is for this job's identity: {_has(claim, found)}",
        "ask the owners of the trust map for a grant that pins this identity",
        claim=claim,
        wanted="an identity that a grant is for",
        found=found,
    )


def mismatch(grant: GrantRule, facts: Mapping[str, str]) -> Refusal:
    failed = [one for one in grant.conditions if not one.holds(facts)]
    first, others = failed[0], sorted({one.claim for one in failed[1:]} - {failed[0].claim})
    found = shown(facts.get(first.claim, ""))
    also = f"; it also fails by {', '.join(others)}" if others else ""
    return Refusal(
        "trust_claim_mismatch",
        grant.rule,
        f"{grant.rule} wants {first.claim} {first.wanted()}, but {_has(first.claim, found)}{also}",
        f"run the job so that {first.claim} is what the grant wants, or ask the owners of the trust map to change it",
        claim=first.claim,
        wanted=first.wanted(),
        found=found,
    )


def ambiguous(first: GrantRule, second: GrantRule) -> Refusal:
    """Two grants match one job. The checks at loading refuse such a map; this is for what they might overlook."""
    return Refusal(
        "trust_ambiguous",
        first.rule,
        f"{first.rule} and {second.rule} both match this job, and exactly one may",
        "have the owners of the trust map tell the two apart by a claim that both name",
        claim="grant",
        wanted="exactly one that matches",
        found=f"{first.rule}, {second.rule}",
    )


def role_not_mapped(grant: GrantRule, role: str, audience: str) -> Refusal:
    mapped = f"its roles are {_list(grant.roles)}" if grant.roles else "it has no roles"
    return Refusal(
        "role_not_mapped",
        grant.rule,
        f"no grant of {audience!r} gives this job the role {shown(role)!r}; {grant.rule} is the nearest, and {mapped}",
        "ask for a role that the grant has" if grant.roles else "ask without a role",
        claim="role",
        wanted=f"one of {_list(grant.roles)}" if grant.roles else "none",
        found=shown(role),
    )


def role_required(grant: GrantRule, roles: Iterable[str], audience: str) -> Refusal:
    names = _list(sorted(roles))
    return Refusal(
        "role_required",
        grant.rule,
        f"several roles of {audience!r} are granted to this job, and it named none: {names}",
        "name one of them as the scope of the request",
        claim="role",
        wanted=f"one of {names}",
    )


def _has(claim: str, found: str) -> str:
    return f'{claim} is "{found}"' if found else f"the job has no {claim}"


def _list(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN_ROLES} more" if len(every) > _SHOWN_ROLES else ""
    return ", ".join(every[:_SHOWN_ROLES]) + more
