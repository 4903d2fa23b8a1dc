"""`orchestrator activity`: what happened, in a line each, as a list and as it comes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.cli.operations import activity
from orchestrator.model import events as e
from orchestrator.model.decision import Verdict
from orchestrator.server.page.activity import Kind, item_of
from orchestrator.testing import stories

JOB = stories.offer().key.id
HAPPENED = [
    e.JobRefused(stories.decision(Verdict.DENY)),
    stories.EXCHANGE,
    stories.ISSUED,
    e.TokenRefused("sts.example", "trust_denied", detail="ref is not main"),
    e.CredentialRevoked("jti-9", "github_installation"),
    stories.CANARY,
    stories.DENIED_HOST,
    e.EgressDecided("ok.example", 443, "tls", True, "ok.example", bytes_up=10, bytes_down=2048, connections=2),
    e.ReceiptSigned("packed", "sha256:ab"),
    e.AlarmRaised("second_claim", "uid\x1b 7"),
]


def items(count: int = len(HAPPENED)) -> list[dict[str, Any]]:
    """Newest first, as the API gives them."""
    facts = [e.Fact(JOB, stories.T0, event, number) for number, event in enumerate(HAPPENED[:count], 1)]
    found = [item_of(fact, "build") for fact in facts]
    return [item for item in found if item is not None][::-1]


@pytest.fixture
def happened(local_daemon):
    local_daemon.documents["/v1/activity"] = {"items": items(), "next": None}
    return local_daemon


def test_every_kind_that_the_api_has_can_be_asked_for():
    assert [kind.value for kind in activity.Kind] == [kind.value for kind in Kind]


def test_each_thing_that_happened_is_told_in_a_line(cli, happened):
    done = cli("activity")
    assert done.exit_code == 0, done.output
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "AT JOB NAME KIND WHAT"
    said = [line.partition(" build ")[2] for line in lines[1:]]
    assert said == [
        f"decision deny admission: {stories.MARKER} [protected_branch]",
        f"decision allow a token for sts.example: {stories.MARKER} [protected_branch]",
        "token issued sts.example",
        "token refused sts.example (trust_denied, ref is not main)",
        "token revoked jti-9",
        "egress proof 192.0.2.1:80 is out of reach, as it must be",
        "egress refused evil.example:443 (not_allowed)",
        "egress allowed ok.example:443 (10 B up, 2.0 KiB down, 2 times)",
        "receipt signed sha256:ab",
        "alarm second_claim: uid? 7",
    ]


def test_json_is_what_the_api_says_and_the_kind_is_asked_for(cli, happened):
    assert json.loads(cli("activity", "--json", "--kind", "egress", "--limit", "3").stdout) == {"items": items()}
    assert happened.requests[-1][2] == {"kind": "egress", "limit": "3"}


def test_pages_are_read_until_there_is_enough_or_what_is_known_already():
    every = items()
    asked: list[dict[str, str]] = []

    class Pages:
        def read(self, _path: str, query: dict[str, str]) -> dict[str, Any]:
            asked.append(dict(query))
            rest = [item for item in every if item["seq"] < int(query.get("before", 99))][: int(query["limit"])][:3]
            return {"items": rest, "next": rest[-1]["seq"] if rest and rest[-1]["seq"] > 1 else None}

    pages: Any = Pages()
    seldom: list[dict[str, Any]] = [{"items": [], "next": 7}, {"items": every[-1:], "next": None}]
    assert activity._newest(pages, None, 7) == every[:7]
    assert [query.get("before") for query in asked] == [None, "8", "5"]
    assert activity._newest(pages, None, 50) == every
    assert activity._newest(pages, None, 50, after=6) == every[:4]
    pages.read = lambda _path, _query: seldom.pop(0)
    assert activity._newest(pages, activity.Kind.DECISION, 5) == every[-1:]


def test_it_follows_until_it_is_interrupted_and_tells_nothing_twice(cli, happened, monkeypatch):
    looks = iter([items(6), items(6), items()])

    def sleep(_seconds: float) -> None:
        happened.documents["/v1/activity"] = {"items": next(looks, None), "next": None}
        if happened.documents["/v1/activity"]["items"] is None:
            raise KeyboardInterrupt

    happened.documents["/v1/activity"] = {"items": items(4), "next": None}
    monkeypatch.setattr("time.sleep", sleep)
    done = cli("activity", "--follow")
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 1 + len(HAPPENED)
    assert cli("activity", "--follow", "--json").exit_code == 2


def test_following_waits_for_a_daemon_that_goes_away(cli, happened, state, monkeypatch):
    """A stopped daemon takes its caller token along; the next one leaves another. That is told once."""
    token = (state / "caller-token").read_text()
    pauses = 0

    def sleep(_seconds: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 1:
            (state / "caller-token").unlink()
        elif pauses == 3:
            (state / "caller-token").write_text(token)
            happened.documents["/v1/activity"] = {"items": items(), "next": None}
        elif pauses == 4:
            raise KeyboardInterrupt

    happened.documents["/v1/activity"] = {"items": items(4), "next": None}
    monkeypatch.setattr("time.sleep", sleep)
    done = cli("activity", "--follow")
    assert (done.exit_code, pauses) == (0, 4), done.output
    assert done.stderr.count("no daemon has left its caller token") == 1
    assert len(done.stdout.splitlines()) == 1 + len(HAPPENED)


def test_nothing_yet(cli, local_daemon):
    local_daemon.documents["/v1/activity"] = {"items": [], "next": None}
    assert "nothing has happened yet" in cli("activity").stdout
    assert "nothing of this kind has happened yet" in cli("activity", "--kind", "alarm").stdout
