"""What policy is told of an artifact's commit and of a release ticket: real clients, servers and settings."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from orchestrator.daemon.github.source_facts import Origin, origin_of
from orchestrator.daemon.promotion.tickets import ReleaseFacts, open_release_facts
from orchestrator.errors import ConfigurationError, OrchestratorError, TryAgainError
from orchestrator.intake.github import errors
from orchestrator.intake.github.commits.facts import CommitPlace
from orchestrator.intake.tickets.errors import TrackerUnavailableError
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.record import Record
from orchestrator.policy.lookups import Question
from orchestrator.settings import Settings
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.github.tokens import Kind
from orchestrator.testing.tracker import TrackerFault, TrackerServer

NOW_NS = 1_790_000_000_000_000_000
NOW = "2026-09-21T14:13:20Z"
SHA = "a" * 40
DIGEST = "sha256:" + "d" * 64


@dataclass
class Release:
    """`acme/shop` with one reviewed and merged commit, whose message names the ticket REL-7."""

    github: GitHubServer
    tracker: TrackerServer
    facts: ReleaseFacts
    sha: str

    @property
    def repository(self):
        return self.github.state.repositories["acme/shop"]

    @property
    def issuer(self) -> str:
        return f"{self.github.url}/_services/token"

    def built(self, **changes: str) -> dict[str, object]:
        told = {
            "repository": "acme/shop", "repository_id": str(self.repository.id), "sha": self.sha,
            "ref": "refs/heads/main", "caller_issuer": self.issuer,
        }  # fmt: skip
        return {"built": told | changes, "provenances": []}


def question(artifact=None, *, ticket: str = "", environment: str = "prod") -> Question:
    spec = JobSpec("deploy", PoolName("p"), "true", deployment_environment=environment, ticket=ticket)
    record = Record(JobOffer(JobKey("dispatch", "j"), spec, Caller("https://i.example", "s")), NOW_NS)
    return Question(record, None, NOW_NS, environment, DIGEST, artifact)


@pytest.fixture
def make(tmp_path):
    stack = AsyncExitStack()

    async def run(commits=(), tickets=(), **more) -> Release:
        github = await stack.enter_async_context(GitHubServer())
        tracker = await stack.enter_async_context(TrackerServer(token="t"))
        shop = github.add_repository("acme/shop", branches={"main": True})
        kim = github.person("kim", right="write", repository="acme/shop")
        lee = github.person("lee", right="write", repository="acme/shop")
        shop.history.commit(kim, branch="main")
        pull = shop.history.propose(kim, "main", shop.history.commit(kim, parents=[shop.history.heads["main"]]))
        shop.history.review(pull, lee)
        sha = shop.history.merge(pull, github.clock.now(), message="a change\n\nRelease-Ticket: REL-7")
        tracker.add("REL-7")
        (tmp_path / "app.pem").write_text(github.app.private_key)
        (tmp_path / "token").write_text("t\n")
        app = {"client_id": github.app.client_id, "installation_id": 777, "private_key_file": tmp_path / "app.pem"}
        one = {"name": "acme", "url": f"{github.url}/acme", "app": app}
        promotion = {
            "commits": {"sources": ["acme"], "max_age_seconds": 0, **dict(commits)},
            "tickets": {"url": tracker.url, "token_file": tmp_path / "token", "max_age_seconds": 0, **dict(tickets)},
        }
        sets = [{"name": "zt", "pool": "default"}]
        settings = Settings(github=[one | {"scale_sets": sets}], promotion=promotion | more)
        return Release(github, tracker, open_release_facts(settings, lambda: NOW_NS, stack), sha)

    run.stack = stack
    return run


@pytest.fixture(autouse=True)
async def closing(make):
    async with make.stack:
        yield


async def test_a_commit_of_a_configured_source(make):
    one = await make()
    assert await one.facts.source(question(one.built())) == {
        "repository": "acme/shop", "repository_id": str(one.repository.id), "commit": one.sha, "branch": "main",
        "protected": True, "merged": True, "commit_verified": True, "reviewed": True, "author": "kim",
        "author_id": str(one.github.state.owners["kim"].id), "pull_request": 1, "reason": "",
        "checked_at": NOW, "from": "github",
    }  # fmt: skip


async def test_the_token_for_it_may_only_read(make):
    one = await make()
    await one.facts.source(question(one.built()))
    [grant] = one.github.tokens.living(Kind.INSTALLATION).values()
    assert grant.permissions == {"contents": "read", "pull_requests": "read", "metadata": "read"}


@pytest.mark.parametrize(
    "changes",
    [
        {"caller_issuer": "https://evil.example"},
        {"caller_issuer": ""},
        {"repository": "evil/shop"},
        {"repository_id": "0"},
        {"repository_id": "x"},
        {"repository_id": "9" * 30},
        {"sha": ""},
    ],
)
async def test_nobody_answers_for_the_commits_of_others(make, changes):
    one = await make()
    assert await one.facts.source(question(one.built(**changes))) is None
    assert not one.github.counters


async def test_an_issuer_may_be_listed_and_the_repository_must_still_be_that_one(make):
    one = await make(commits={"issuers": ["https://i.example"]})
    told = one.built(caller_issuer="https://i.example")
    assert (await one.facts.source(question(told)))["merged"]
    told = one.built(caller_issuer="https://i.example", repository_id="77")
    found = await one.facts.source(question(told))
    assert (found["reason"], found["protected"], found["merged"]) == ("repository_is_another", False, False)


async def test_provenance_of_others_names_a_repository_by_its_url(make):
    one = await make()
    host = one.github.url.removeprefix("http://")
    told = {"built": {}, "provenances": [{"repository": f"git+https://{host}/acme/shop.git", "commit": one.sha}]}
    found = await one.facts.source(question(told))
    assert (found["repository_id"], found["reviewed"]) == (str(one.repository.id), True)
    told["provenances"].append({"repository": f"https://{host}/acme/other", "commit": one.sha})
    assert await one.facts.source(question(told)) is None


def test_where_an_artifact_comes_from():
    place = CommitPlace("acme/shop", 0, SHA)
    url = {"repository": "https://github.com/acme/shop", "commit": SHA}
    assert origin_of({"provenances": [url, url | {"level": 3}]}) == Origin(place, host="github.com")
    assert origin_of(None) is origin_of({}) is origin_of({"provenances": ["x"], "built": None}) is None
    for repository in ("acme/shop", "https://github.com/acme", "https://[/a/b", "https://h/a/b?c", "ssh://h/a/b", 7):
        assert origin_of({"provenances": [{"repository": repository, "commit": SHA}]}) is None


async def test_an_answer_serves_for_its_time(make):
    one = await make(commits={"max_age_seconds": 600})
    await one.facts.source(question(one.built()))
    calls = one.github.counters.total()
    await one.facts.source(question(one.built()))
    assert one.github.counters.total() == calls
    await one.facts.source(question(one.built(sha=SHA)))
    assert one.github.counters.total() > calls


async def test_trouble_is_told_to_the_log_and_raised(make, caplog):
    one = await make(commits={"timeout_seconds": 0.05})
    one.github.faults.add(Fault.HANG, "compare")
    with caplog.at_level(logging.WARNING), pytest.raises(TryAgainError) as late:
        await one.facts.source(question(one.built()))
    assert late.value.reason == "source_facts_late"
    assert f"about commit {one.sha}" in caplog.text


async def test_a_missing_permission_is_named(make, caplog):
    one = await make()
    one.github.faults.add(Fault.FORBIDDEN, "reviews", times=9)
    with caplog.at_level(logging.WARNING), pytest.raises(errors.ForbiddenError):
        await one.facts.source(question(one.built()))
    assert "Pull requests: read" in caplog.text


async def test_only_some_environments_depend_on_others(make):
    one = await make(
        commits={"environments": ["prod"]}, tickets={"environments": ["prod"], "trailer": "Release-Ticket"}
    )
    asked = question(one.built(), ticket="REL-7", environment="staging")
    assert await one.facts.source(asked) is None
    assert await one.facts.ticket(asked) is None
    assert not one.github.counters
    assert one.tracker.asked == []


async def test_the_ticket_that_a_job_names(make):
    one = await make()
    assert await one.facts.ticket(question(ticket="REL-7")) == {
        "id": "REL-7", "exists": True, "open": True, "status": "new", "project": "SHOP", "type": "Release",
        "url": one.tracker.url.replace("{id}", "REL-7"), "checked_at": NOW,
    }  # fmt: skip
    assert await one.facts.ticket(question()) is None
    assert not (await one.facts.ticket(question(ticket="made/up#1")))["exists"]


async def test_the_ticket_of_a_platforms_job_is_its_commits(make):
    one = await make(tickets={"trailer": "Release-Ticket"})
    assert (await one.facts.ticket(question(one.built())))["id"] == "REL-7"
    assert (await one.facts.ticket(question(one.built(), ticket="REL-8")))["id"] == "REL-8"
    one.repository.branches["main"] = False
    assert await one.facts.ticket(question(one.built())) is None


async def test_a_commit_of_a_fork_names_no_ticket(make):
    one = await make(tickets={"trailer": "Release-Ticket"})
    mallory = one.github.person("mallory")
    sha = one.repository.history.commit(mallory, message="x\n\nRelease-Ticket: REL-7", verified=True)
    assert await one.facts.ticket(question(one.built(sha=sha))) is None


async def test_a_tracker_in_trouble_is_an_error(make, caplog):
    one = await make()
    one.tracker.faults.extend([TrackerFault.UNAVAILABLE] * 3)
    with caplog.at_level(logging.WARNING), pytest.raises(TrackerUnavailableError):
        await one.facts.ticket(question(ticket="REL-7"))
    assert "tracker_unavailable" in caplog.text
    assert "Bearer" not in caplog.text


async def test_a_token_file_that_is_missing_is_an_error(make, tmp_path):
    one = await make()
    (tmp_path / "token").unlink()
    with pytest.raises(OrchestratorError) as refused:
        await one.facts.ticket(question(ticket="REL-7"))
    assert refused.value.reason == "secret_file_unusable"


async def test_nothing_is_configured():
    async with AsyncExitStack() as stack:
        assert open_release_facts(Settings(), lambda: NOW_NS, stack) == ReleaseFacts(None, None)


async def test_a_ca_file_that_cannot_be_used(make, tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        await make(tickets={"ca_file": tmp_path / "none.pem"})
    assert refused.value.reason == "tracker_ca_unusable"
