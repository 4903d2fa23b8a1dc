"""The inventory: which identity could reach what, and who could reach a target, if all their conditions held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.identity.trust.document import GrantRule, rule_name
from orchestrator.identity.trust.trust_map import TrustMap


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """One grant as a permission: `identities` (its pins, such as `repository_id=42`) under further `conditions` (claim
    to what it has to be), to a target and its roles. `token_seconds` is the longest life of a token; `latest_seconds`
    the latest moment, from its issue, at which a session made from it can still live.
    """

    rule: str
    environment: str
    issuer: str
    identities: tuple[str, ...]
    conditions: Mapping[str, str]
    target: str
    kind: str
    audience: str
    roles: tuple[str, ...]
    token_seconds: int
    latest_seconds: int
    session_tags: Mapping[str, str]
    transitive: tuple[str, ...]
    permissions: Mapping[str, str]
    repository_id: str

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "environment": self.environment,
            "issuer": self.issuer,
            "identities": list(self.identities),
            "conditions": dict(self.conditions),
            "target": self.target,
            "kind": self.kind,
            "audience": self.audience,
            "roles": list(self.roles),
            "token_seconds": self.token_seconds,
            "latest_seconds": self.latest_seconds,
            "session_tags": dict(self.session_tags),
            "transitive": list(self.transitive),
            "permissions": dict(self.permissions),
            "repository_id": self.repository_id,
        }


@dataclass(frozen=True, slots=True)
class Inventory:
    """The rows in the documents' order. `digest` is that of the map."""

    digest: str
    rows: tuple[InventoryRow, ...]

    def by_identity(self) -> dict[str, list[InventoryRow]]:
        """What each identity could reach."""
        return self._grouped(lambda row: row.identities)

    def by_target(self) -> dict[str, list[InventoryRow]]:
        """Who could reach each target; named `environment/target`."""
        return self._grouped(lambda row: (rule_name(row.environment, row.target),))

    def as_json(self) -> dict[str, Any]:
        return {
            "trust_digest": self.digest,
            "grants": [row.as_json() for row in self.rows],
            "by_identity": {name: [row.rule for row in rows] for name, rows in self.by_identity().items()},
            "by_target": {name: [row.rule for row in rows] for name, rows in self.by_target().items()},
        }

    def _grouped(self, keys: Callable[[InventoryRow], tuple[str, ...]]) -> dict[str, list[InventoryRow]]:
        groups: dict[str, list[InventoryRow]] = {}
        for row in self.rows:
            for key in keys(row):
                groups.setdefault(key, []).append(row)
        return dict(sorted(groups.items()))


def inventory(trust_map: TrustMap) -> Inventory:
    """Every grant of the map as a row."""
    rows = (_row(grant) for document in trust_map.documents for grant in document.grants)
    return Inventory(trust_map.digest, tuple(rows))


def _row(grant: GrantRule) -> InventoryRow:
    target = grant.target
    pins = grant.pins
    return InventoryRow(
        rule=grant.rule,
        environment=grant.environment,
        issuer=grant.issuer,
        identities=_identities(grant),
        conditions={one.claim: one.wanted() for one in grant.conditions if one not in pins},
        target=target.name,
        kind=target.kind,
        audience=target.audience,
        roles=grant.roles,
        token_seconds=grant.max_ttl_seconds,
        latest_seconds=latest_seconds(grant),
        session_tags={key: tag.value or f"claim {tag.claim}" for key, tag in grant.session_tags.items()},
        transitive=grant.transitive,
        permissions=grant.permissions,
        repository_id=grant.repository_id,
    )


def _identities(grant: GrantRule) -> tuple[str, ...]:
    """One for each value of the pin that says who; further pins stand behind it."""
    key = grant.key
    others = "".join(f" {one.claim}={'|'.join(sorted(one.values))}" for one in grant.pins if one is not key)
    return tuple(f"{key.claim}={value}{others}" for value in sorted(key.values))


def latest_seconds(grant: GrantRule) -> int:
    """From a token's issue to the latest end of a session made from it: its life, the target's slack, the session."""
    if grant.permissions:
        return grant.max_ttl_seconds
    return grant.max_ttl_seconds + grant.target.slack_seconds + grant.target.latest_session_seconds
