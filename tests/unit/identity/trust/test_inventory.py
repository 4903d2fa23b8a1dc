"""Who could reach what, both ways; and what a change of the map changes."""

from __future__ import annotations

import copy
import json

import pytest

from orchestrator.identity.trust.difference import Direction, diff
from orchestrator.identity.trust.document import Target
from orchestrator.identity.trust.inventory import inventory
from orchestrator.identity.trust.kinds import KINDS
from orchestrator.identity.trust.trust_map import TrustMap
from tests.unit.identity.trust.conftest import EXAMPLES, ROLE

AUDIENCE = "sts.amazonaws.com"
ISSUER = "caller_issuer=https://token.actions.githubusercontent.com"


@pytest.fixture(scope="module")
def examples():
    return inventory(TrustMap.load([EXAMPLES]))


def test_every_grant_is_a_row_with_all_that_it_gives(examples):
    rows = {row.rule: row for row in examples.rows}
    assert len(rows) == 8
    row = rows["prod/shop-release"]
    assert row.identities == (f"repository_id=42 {ISSUER}",)
    assert row.conditions["ref"] == 'matching "refs/heads/release/*"'
    assert "repository_id" not in row.conditions
    assert (row.target, row.kind, row.audience, row.issuer) == ("aws-prod", "aws", AUDIENCE, "prod")
    assert row.roles == ("arn:aws:iam::333333333333:role/shop-release",)
    assert (row.token_seconds, row.latest_seconds) == (300, 300 + 300 + 3600)
    assert row.session_tags == {"repository": "claim repository", "stage": "prod"}
    assert row.transitive == ("repository", "stage")


def test_an_installation_token_ends_by_itself_after_its_hour(examples):
    (row,) = (row for row in examples.rows if row.kind == "github")
    assert (row.latest_seconds, row.permissions, row.roles) == (3600, {"contents": "read"}, ())


def test_it_is_grouped_both_ways(examples):
    reach = {name: [row.rule for row in rows] for name, rows in examples.by_identity().items()}
    assert reach[f"repository_id=43 {ISSUER}"] == ["-/read-artifacts"]
    assert len(reach[f"repository_id=42 {ISSUER}"]) == 8
    who = {name: [row.rule for row in rows] for name, rows in examples.by_target().items()}
    assert who["prod/cluster-prod"] == ["prod/shop-rollout"]
    assert who["-/artifacts"] == ["-/read-artifacts", "-/shop-upload"]


def test_it_is_json(examples):
    told = json.loads(json.dumps(examples.as_json()))
    assert told["by_target"]["prod/aws-prod"] == ["prod/shop-release"]
    assert told["grants"][0]["rule"] == "-/read-artifacts"


# --- differences ----------------------------------------------------------------------------------------------------


def change(prod, path, value):
    new = copy.deepcopy(prod)
    place = new["grants"][0]
    *way, last = path
    for key in way:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return new


WIDER, NARROWER = Direction.WIDENED, Direction.NARROWED
CHANGES = [
    (("when", "ref"), {"matches": "refs/heads/**"}, WIDER, 'ref has to be matching "refs/heads/**", was matching'),
    (("when", "ref"), {"matches": "refs/heads/release/1.*"}, NARROWER, "was matching"),
    (("when", "ref"), {"equals": "refs/heads/release/1"}, NARROWER, 'equal to "refs/heads/release/1"'),
    (("when", "ref"), {"equals": "refs/heads/main"}, WIDER, 'equal to "refs/heads/main"'),
    (("when", "ref"), None, WIDER, "ref does not have to be matching"),
    (("when", "actor_id"), {"equals": "7"}, NARROWER, 'actor_id has to be equal to "7"'),
    (("when", "trust_tier"), None, WIDER, "trust_tier has to be"),
    (("when", "repository_id"), {"equals": "43"}, WIDER, 'repository_id has to be equal to "43"'),
    (("when", "ref_protected"), {"one_of": ["true"]}, None, ""),
    (("max_ttl_seconds",), 299, NARROWER, "max_ttl_seconds is 299, was 300"),
    (("max_ttl_seconds",), 301, WIDER, "max_ttl_seconds is 301, was 300"),
    (("session_tags", "stage"), {"value": "qa"}, WIDER, "session_tags is repository=claim repository, stage=qa"),
    (("transitive",), None, WIDER, "transitive is none"),
]


@pytest.mark.parametrize(("path", "value", "direction", "told"), CHANGES, ids=lambda one: str(one)[:50])
def test_a_change_of_one_grant(load, prod, path, value, direction, told):
    old = load(prod)
    found = diff(old, load(change(prod, path, value)))
    assert [one.direction for one in found.changes] == ([direction] if direction else [])
    assert found.widens == (direction is WIDER)
    for one in found.changes:
        assert (one.rule, one.audience, one.role) == ("prod/app-release", AUDIENCE, ROLE)
        assert told in "\n".join(one.details)
    assert diff(old, old).changes == ()


def test_wider_and_narrower_at_once_is_wider_with_both_told(load, prod):
    new = change(prod, ("max_ttl_seconds",), 60)
    new["grants"][0]["when"].pop("ref")
    (one,) = diff(load(prod), load(new)).changes
    assert one.direction is WIDER
    assert len(one.details) == 3


def test_edges_come_and_go(load, prod):
    new = change(prod, ("roles",), [f"{ROLE}-2"])
    found = diff(load(prod), load(new))
    assert [(one.direction, one.role) for one in found.changes] == [
        (Direction.REMOVED, ROLE),
        (Direction.ADDED, f"{ROLE}-2"),
    ]
    assert found.widens
    assert 'repository_id equal to "42"' in found.changes[1].details[0]
    assert not diff(load(prod), load(prod | {"grants": []})).widens


def test_a_targets_figures_count_for_its_grants(load, prod):
    new = copy.deepcopy(prod)
    new["targets"]["aws-prod"]["session_seconds"] = 7200
    (one,) = diff(load(prod), load(new)).changes
    assert one.direction is WIDER
    assert "is 7800, was 4200" in one.details[0]


def test_permissions_have_an_order(load, prod):
    prod["targets"] = {"source": {"kind": "github", "audience": "github:acme"}}
    prod["grants"] = [
        {
            "name": "a",
            "when": {"repository_id": {"equals": "42"}},
            "target": "source",
            "permissions": {"contents": "read"},
        }
    ]
    maps = {
        name: load(change(prod, ("permissions",), permissions))
        for name, permissions in {
            "read": {"contents": "read"},
            "write": {"contents": "write"},
            "more": {"contents": "read", "issues": "read"},
        }.items()
    }
    assert diff(maps["read"], maps["write"]).widens
    assert diff(maps["read"], maps["more"]).widens
    assert not diff(maps["write"], maps["read"]).widens
    assert diff(maps["more"], maps["write"]).changes[0].details == (
        "contents is write, was read",
        "issues is none, was read",
    )


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        ({"protected": True}, {}, WIDER),
        ({}, {"protected": True}, NARROWER),
        ({}, {"shared_roles": ["x"]}, WIDER),
        ({"shared_roles": ["x"]}, {}, NARROWER),
    ],
)
def test_a_documents_guards_are_changes_too(load, prod, old, new, direction):
    prod["grants"][0]["when"]["caller_issuer"] = {"equals": "https://ci.example"}
    (one,) = diff(load(prod | old), load(prod | new)).changes
    assert (one.direction, one.rule, one.audience) == (direction, "prod/", "")


def test_a_comparison_that_is_given_up_is_a_change(load, prod):
    staging = copy.deepcopy(prod) | {"environment": "staging", "grants": []}
    strict = load(prod | {"stricter_than": "staging"}, staging)
    (one,) = diff(strict, load(prod, staging)).changes
    assert (one.direction, one.details) == (WIDER, ("stricter_than is nothing, was 'staging'",))
    assert not diff(load(prod, staging), strict).widens


def test_another_issuer_counts_as_wider(load, prod):
    (one,) = diff(load(prod), load(prod | {"issuer": "other"})).changes
    assert (one.direction, one.details) == (WIDER, ("issuer is other, was prod",))


@pytest.mark.parametrize(
    ("kind", "session", "latest"),
    [
        ("aws", 900, 3600),
        ("aws", 7200, 7200),
        ("gcp", 600, 3600 + 3600),
        ("gcp", 43200, 3600 + 43200),
        ("azure", None, 86400),
        ("azure", 5400, 5400),
        ("vault", 60, 60),
        ("kubernetes", 0, 0),
    ],
)
def test_the_latest_end_is_what_a_job_could_get_by_itself(kind, session, latest):
    default = KINDS[kind].session_seconds if session is None else session
    assert Target("t", kind, "a", default, 60, 300).latest_session_seconds == latest
