"""`orchestrator trust` of a running daemon: why one of its jobs gets a token or none, and who could get what."""

from __future__ import annotations

import json
import shlex

import pytest

from orchestrator.cli.trust.commands import EXPLAIN_EXAMPLES, INVENTORY_EXAMPLES
from orchestrator.identity.trust.inventory import inventory
from orchestrator.identity.trust.trust_map import TrustMap
from orchestrator.server.trust.shapes import InventoryView, TrustView
from tests.unit.cli.conftest import job_view

JOB = "dispatch.aa11bb22cc33dd44.1"
MAP = """
trust_map: 1
environment: staging
targets: {cache: {kind: oidc, audience: cache}}
grants:
  - name: shop
    when: {repository_id: {equals: "7"}, ref: {equals: refs/heads/main}}
    target: cache
    roles: [writer]
    max_ttl_seconds: 60
"""
FACTS = {"environment": "staging", "repository_id": "7", "trust_tier": "standard", "ref": "refs/heads/\x1b[31mx"}
AT = "2026-01-02T03:04:05.000000Z"


@pytest.fixture
def trust(tmp_path) -> TrustMap:
    (tmp_path / "map.yaml").write_text(MAP)
    return TrustMap.load([tmp_path / "map.yaml"])


@pytest.fixture
def daemon(local_daemon, trust):
    local_daemon.jobs[JOB] = job_view(JOB)
    recorded = [
        {"at": AT, "what": "decided", "by": "policy", "reason": "allow", "detail": "fine [ok]", "decision_id": "d"},
        {
            "at": AT,
            "what": "refused",
            "reason": "trust_claim_mismatch",
            "rule": "staging/shop",
            "detail": "no such ref",
        },
    ]
    local_daemon.trust = {
        "listed": True, "explanation": trust.explain(FACTS, "cache").as_json(), "note": "", "recorded": recorded,
    }  # fmt: skip
    local_daemon.inventory = {"configured": True, **inventory(trust).as_json()}
    return local_daemon


def test_the_test_servers_answers_fit_the_schema(daemon):
    TrustView.model_validate(daemon.trust | {"job_id": JOB, "audience": "cache", "role": ""})
    InventoryView.model_validate(daemon.inventory)


def test_why_a_job_gets_none_and_what_was_recorded(cli, daemon):
    done = cli("trust", "explain", "aa11", "cache")
    assert done.exit_code == 0, done.stderr
    assert "refused by staging/shop: trust_claim_mismatch" in done.stdout
    assert "ref" in done.stdout
    assert "\x1b" not in done.stdout
    assert "no such ref" in done.stdout
    assert "fine [ok]" in done.stdout
    assert cli("trust", "explain", JOB, "cache", "--exit-status").exit_code == 1


def test_as_json_it_is_the_answer_itself(cli, daemon):
    done = cli("trust", "explain", JOB, "cache", "--role", "writer", "--json")
    assert json.loads(done.stdout) == daemon.trust | {"job_id": JOB, "audience": "cache", "role": "writer"}


def test_a_granted_job_is_a_success(cli, daemon, trust):
    daemon.trust["explanation"] = trust.explain(FACTS | {"ref": "refs/heads/main"}, "cache").as_json()
    done = cli("trust", "explain", JOB, "cache", "--exit-status")
    assert done.exit_code == 0
    assert "granted by staging/shop: cache as writer" in done.stdout


def test_nothing_to_explain_says_why(cli, daemon):
    daemon.trust |= {"listed": False, "explanation": None, "note": "no trust map is configured", "recorded": []}
    done = cli("trust", "explain", JOB, "cache", "--exit-status")
    assert done.exit_code == 1
    assert "no trust map is configured" in done.stdout
    assert "do not list this audience" in done.stdout


@pytest.mark.parametrize(
    "words",
    [["cache"], ["a", "b", "c"], ["cache", "--claims", "x.json"], ["cache", "--map", "m"], ["j", "c", "--claims", "x"]],
)
def test_a_job_or_claims_and_a_map_but_not_both(cli, daemon, words):
    done = cli("trust", "explain", *words)
    assert done.exit_code == 2
    assert "fix:" in done.stderr


def test_the_inventory_of_the_daemon(cli, daemon):
    done = cli("trust", "inventory")
    assert done.exit_code == 0, done.stderr
    assert "repository_id=7" in done.stdout
    assert "staging/shop" in done.stdout
    assert json.loads(cli("trust", "inventory", "--json").stdout) == daemon.inventory


@pytest.mark.parametrize("line", [EXPLAIN_EXAMPLES[0], INVENTORY_EXAMPLES[0]])
def test_the_examples_of_the_help_work(cli, daemon, line):
    words = ["aa11" if word == "3f2a" else word for word in shlex.split(line)[1:]]
    assert cli(*words).exit_code == 0
