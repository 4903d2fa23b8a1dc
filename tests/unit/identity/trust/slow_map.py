"""The trust map's meaning, said again over the content of its documents: no index, no compiled pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

TAG = re.compile(r"[\w _.:/=+@-]{1,256}")
PINS = ("repository_id", "caller", "caller_issuer", "repository_owner_id")


def holds(condition: Mapping[str, Any], found: str) -> bool:
    if not found:
        return False
    if "equals" in condition:
        return found == condition["equals"]
    if "one_of" in condition:
        return found in condition["one_of"]
    parts = re.split(r"(\*\*|\*)", condition["matches"])
    regex = "".join({"**": "(?s:.*)", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(regex, found) is not None


def matches(grant: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    tier = facts.get("trust_tier", "")
    tags = grant.get("session_tags", {}).values()
    return (
        all(holds(condition, facts.get(claim, "")) for claim, condition in grant["when"].items())
        and tier in ("standard", "protected")
        and all(TAG.fullmatch(facts.get(tag["claim"], "")) for tag in tags if "claim" in tag)
    )


def is_own(grant: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
    return all(
        holds(condition, facts.get(claim, ""))
        for claim, condition in grant["when"].items()
        if claim in PINS and "matches" not in condition
    )


def slow_answer(
    contents: Sequence[Mapping[str, Any]], facts: Mapping[str, str], audience: str, role: str
) -> tuple[str, ...]:
    """(`granted`, rule, role), or (the refusal's code,)."""
    for content in contents:
        if content["environment"] == facts.get("environment", ""):
            return _in_document(content, facts, audience, role)
    return ("trust_no_grant",)


def _in_document(content: Mapping[str, Any], facts: Mapping[str, str], audience: str, role: str) -> tuple[str, ...]:
    own = [
        grant
        for grant in content["grants"]
        if content["targets"][grant["target"]]["audience"] == audience and is_own(grant, facts)
    ]
    if not own:
        return ("trust_no_grant",)
    asked = [grant for grant in own if not role or role in grant.get("roles", ())]
    if not asked:
        return ("role_not_mapped",)
    found = [grant for grant in asked if matches(grant, facts)]
    if not found:
        return ("trust_claim_mismatch",)
    roles = {name for grant in found for name in grant.get("roles", ())}
    if len(found) > 1:
        choice = not role and all(grant.get("roles") for grant in found) and len(roles) > 1
        return ("role_required",) if choice else ("trust_ambiguous",)
    if not role and len(roles) > 1:
        return ("role_required",)
    name = f"{content['environment'] or '-'}/{found[0]['name']}"
    return ("granted", name, role or next(iter(roles), ""))
