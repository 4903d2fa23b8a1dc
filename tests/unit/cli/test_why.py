"""`orchestrator why` and `orchestrator pools`: what a person reads, and what a script does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.model.pool import Pool, TrustTier
from orchestrator.server.shapes import PoolListView, WhyView
from orchestrator.server.views import pool_view

JOB = "dispatch.aa11bb22cc33dd44.1"
ANSWER: dict[str, Any] = {
    "id": JOB,
    "name": "build\x1b[2J",
    "phase": "waiting",
    "result": None,
    "reason": "pool_full",
    "sentence": "The job waits for a place in pool 'default': 2 of 2 places are taken (for 3 min).",
    "next_step": "Wait until others end (`orchestrator pools`).",
    "since": "2026-01-02T03:04:05.000000Z",
    "gives_up_at": None,
    "pool": {"name": "default", "capacity": 2, "in_use": 2, "before": 3},
    "hints": ["An alarm was raised: second_claim.\x07"],
}


@pytest.fixture
def asked(local_daemon, make_view):
    local_daemon.jobs[JOB] = make_view(JOB)
    local_daemon.documents[f"/v1/jobs/{JOB}/why"] = ANSWER
    return local_daemon


@pytest.fixture
def two_pools(local_daemon):
    def pool(name: str, capacity: int, *egress: Any) -> Any:
        return Pool(name, "sandbox", TrustTier.STANDARD, capacity, "host-toolchain", "namespaces", egress)  # type: ignore[arg-type]

    full = pool_view(pool("default", 2), 2, 7)
    lame = pool_view(pool("protected", 4), 0, 0, ["the policy `deny-all` is not as it was rendered"])
    local_daemon.documents["/v1/pools"] = {"pools": [full, lame]}
    return local_daemon


def test_the_test_servers_answers_fit_the_schema(two_pools):
    WhyView.model_validate(ANSWER)
    PoolListView.model_validate(two_pools.documents["/v1/pools"])


def test_a_person_reads_the_sentence_what_may_explain_it_and_the_next_step(cli, asked):
    done = cli("why", "aa11")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"build?[2J  {JOB}  waiting",
        ANSWER["sentence"],
        "  also: An alarm was raised: second_claim.?",
        "  next: Wait until others end (`orchestrator pools`).",
    ]


def test_json_is_what_the_api_says(cli, asked, two_pools):
    assert json.loads(cli("why", JOB, "--json").stdout) == ANSWER
    every = two_pools.documents["/v1/pools"]["pools"]
    assert json.loads(cli("pools", "--json").stdout) == {"pools": every}
    assert json.loads(cli("pools", "protected", "--json").stdout) == {"pools": every[1:]}


def test_pools_say_how_full_they_are_and_what_they_lack(cli, two_pools):
    lines = cli("pools").stdout.splitlines()
    assert lines[0].split() == ["POOL", "BACKEND", "TIER", "IN", "USE", "WAITING", "GUARDS"]
    assert lines[1].split() == ["default", "sandbox", "standard", "2", "of", "2", "7", "whole"]
    assert lines[2].split() == ["protected", "sandbox", "standard", "0", "of", "4", "0", "1", "missing"]
    assert lines[3:] == ["protected: the policy `deny-all` is not as it was rendered"]


def test_one_pool_in_full(cli, two_pools):
    text = cli("pools", "protected").stdout
    assert "default" not in text
    assert "made of       host-toolchain" in text
    assert "egress        nothing" in text


def test_what_there_is_not(cli, asked, two_pools):
    unknown = cli("pools", "nowhere")
    assert unknown.exit_code == 2
    assert "there are: default, protected" in unknown.stderr
    assert cli("why", "dispatch.none.1").exit_code == 1


def test_a_narrow_terminal_still_names_pools(cli, two_pools, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    named = [line.split()[0] for line in cli("pools").stdout.splitlines()[1:3]]
    assert named == ["default", "protected"]
