"""What is believed of a commit: from the stateful server by the real client, with each way to make it look better."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opened import app_credential, opened

from orchestrator.intake.github import errors
from orchestrator.intake.github.commits.facts import (
    CommitFacts,
    CommitFinder,
    CommitPlace,
    CommitRules,
    approved_by,
    writers_of,
)
from orchestrator.intake.github.commits.objects import Account, Commit, PullRequest, Review, ReviewState
from orchestrator.intake.github.commits.protocol import READS, READS_COMMITS
from orchestrator.testing.github.faults import Fault
from orchestrator.testing.github.history import History, Person
from orchestrator.testing.github.server import GitHubServer

SHOP = "acme/shop"


@dataclass
class Shop:
    """The repository `acme/shop`, whose `main` is protected and whose `feature/x` is not."""

    server: GitHubServer
    github: object

    @property
    def history(self) -> History:
        return self.server.state.repositories[SHOP].history

    @property
    def id(self) -> int:
        return self.server.state.repositories[SHOP].id

    def person(self, login: str, right: str = "write", kind: str = "User") -> Person:
        return self.server.person(login, right=right, repository=SHOP, kind=kind)

    def squashed(self, *reviewers: Person, author: Person | None = None) -> str:
        """A pull request of kim's into `main`, approved by these, merged as one commit."""
        author = author or self.person("kim")
        pull = self.history.propose(author, "main", self.history.commit(author, parents=[self.history.heads["main"]]))
        for one in reviewers:
            self.history.review(pull, one)
        return self.history.merge(pull, self.server.clock.now())

    async def find(self, sha: str, rules: CommitRules = CommitRules(), **place: object) -> CommitFacts:  # noqa: B008
        told = {"repository": SHOP, "repository_id": self.id, **place}
        finder = CommitFinder(self.github.commits, self.github.connection.url, rules)
        return await finder.find(CommitPlace(sha=sha, **told))


@pytest.fixture
async def shop(tmp_path):
    async with opened(tmp_path, credential=lambda server: app_credential(server, tmp_path, permissions=READS)) as found:
        one = Shop(found.server, found.github)
        one.history.commit(one.person("kim"), branch="main")
        yield one


async def test_a_reviewed_pull_request_that_was_merged(shop):
    kim = shop.person("kim")
    sha = shop.squashed(shop.person("lee"), author=kim)
    shop.history.commit(kim, branch="main")  # the branch went on
    assert await shop.find(sha) == CommitFacts(
        SHOP, shop.id, sha, branch="main", protected=True, merged=True, commit_verified=True, reviewed=True,
        author="kim", author_id=kim.id, pull_request=1, message="a change (#1)",
    )  # fmt: skip


async def test_the_commits_of_a_merge_came_by_its_pull_request_too(shop):
    kim = shop.person("kim")
    inner = shop.history.commit(kim, parents=[shop.history.heads["main"]])
    pull = shop.history.propose(kim, "main", inner)
    shop.history.review(pull, shop.person("lee"))
    shop.history.merge(pull, shop.server.clock.now(), squash=False)
    found = await shop.find(inner)
    assert (found.merged, found.reviewed, found.commit_verified) == (True, True, False)


async def test_a_commit_on_the_way_to_what_was_reviewed_is_not_reviewed(shop):
    """Its author could build from it what the next commit takes away again, before anybody looks."""
    kim = shop.person("kim")
    evil = shop.history.commit(kim, parents=[shop.history.heads["main"]])
    head = shop.history.commit(kim, parents=[evil])
    pull = shop.history.propose(kim, "main", evil, head)
    shop.history.review(pull, shop.person("lee"))
    merged = shop.history.merge(pull, shop.server.clock.now(), squash=False)
    found = await shop.find(evil)
    assert (found.protected, found.merged, found.reviewed) == (True, True, False)
    assert (await shop.find(head)).reviewed
    assert (await shop.find(merged)).reviewed


async def test_a_push_past_all_pull_requests_is_protected_and_no_more(shop):
    sha = shop.history.commit(shop.person("kim"), branch="main")
    found = await shop.find(sha)
    assert (found.branch, found.protected) == ("main", True)
    assert (found.merged, found.reviewed, found.commit_verified) == (False, False, False)


async def test_a_commit_of_a_fork_is_nothing_though_github_shows_it(shop):
    """Anybody can have it shown under the repository's name, with a signature that is good."""
    mallory = shop.server.person("mallory")
    sha = shop.history.commit(
        mallory, parents=[shop.history.heads["main"]], verified=True, message="Release-Ticket: X-1"
    )
    shop.history.propose(mallory, "main", sha)
    found = await shop.find(sha)
    assert found == CommitFacts(SHOP, shop.id, sha, reason="on_no_release_branch")


@pytest.mark.parametrize("sha", ["", "main", "HEAD", "a" * 39, "A" * 40, "../" + "a" * 37])
async def test_only_a_whole_commit_id_names_a_commit(shop, sha):
    assert (await shop.find(sha)).reason == "commit_malformed"
    assert not shop.server.counters


async def test_a_commit_that_is_nowhere(shop):
    found = await shop.find(secrets.token_hex(20))
    assert found.reason == "commit_unknown"
    assert not found.protected


async def test_another_repository_under_the_name_is_another(shop):
    sha = shop.squashed(shop.person("lee"))
    found = await shop.find(sha, repository_id=shop.id + 1)
    assert (found.reason, found.protected, found.merged) == ("repository_is_another", False, False)


async def test_a_repository_of_others_is_not_asked_about(shop):
    found = await shop.find("a" * 40, repository="evil/shop")
    assert found.reason == "repository_not_covered"
    assert not shop.server.counters


async def test_a_repository_that_was_renamed_is_the_same_by_its_id(shop):
    sha = shop.squashed(shop.person("lee"))
    number = shop.id
    shop.server.rename_repository(SHOP, "store")
    finder = CommitFinder(shop.github.commits, shop.github.connection.url, CommitRules())
    found = await finder.find(CommitPlace(SHOP, number, sha))
    assert (found.repository, found.repository_id, found.reviewed) == ("acme/store", number, True)
    with pytest.raises(errors.RepositoryMovedError):
        await finder.find(CommitPlace(SHOP, 0, sha))


async def test_a_branch_that_is_not_protected_gives_no_protection(shop):
    shop.server.state.repositories[SHOP].branches["main"] = False
    found = await shop.find(shop.squashed(shop.person("lee")))
    assert (found.branch, found.protected, found.merged) == ("main", False, True)


async def test_release_branches_by_name_and_by_pattern(shop):
    kim, branches = shop.person("kim"), shop.server.state.repositories[SHOP].branches
    branches |= {"release/2": True, "topic": True}
    on_release = shop.history.commit(kim, branch="release/2")
    on_topic = shop.history.commit(kim, branch="topic")
    rules = CommitRules(branches=("main", "release/*"))
    assert (await shop.find(on_release, rules, ref="refs/heads/release/2")).branch == "release/2"
    assert (await shop.find(on_release, rules, ref="refs/heads/main")).reason == "on_no_release_branch"
    assert (await shop.find(on_release, rules, ref="refs/tags/release/2")).reason == "on_no_release_branch"
    assert (await shop.find(on_topic, rules, ref="refs/heads/topic")).reason == "on_no_release_branch"
    assert (await shop.find(on_topic, ref="refs/heads/topic")).reason == "on_no_release_branch"


async def test_a_protected_branch_goes_before_another(shop):
    sha = shop.history.heads["main"]
    shop.history.heads["feature/x"] = sha
    found = await shop.find(sha, CommitRules(branches=("gone", "feature/x", "main")))
    assert (found.branch, found.protected) == ("main", True)


async def test_a_pull_request_into_elsewhere_merged_nothing_here(shop):
    kim = shop.person("kim")
    sha = shop.history.commit(kim, branch="main")
    other = shop.history.propose(kim, "feature/x", sha)
    shop.history.merge(other, shop.server.clock.now(), squash=False)
    foreign = shop.history.propose(kim, "main", sha)
    foreign.base_repository, foreign.merged_at = shop.id + 1, shop.server.clock.now()
    shop.history.propose(kim, "main", sha)  # never merged
    assert not (await shop.find(sha)).merged


@pytest.mark.parametrize("right", ["read", "none"])
async def test_a_stranger_may_approve_and_it_counts_for_nothing(shop, right):
    sha = shop.squashed(shop.person("passer-by", right), shop.server.person("unknown"))
    assert not (await shop.find(sha)).reviewed


async def test_nobody_reviews_their_own(shop):
    kim = shop.person("kim", "admin")
    assert not (await shop.find(shop.squashed(kim, author=kim))).reviewed


async def test_who_wrote_a_part_is_no_other(shop):
    """Lee adds a commit to kim's pull request and approves it."""
    kim, lee, ann = shop.person("kim"), shop.person("lee"), shop.person("ann")
    first = shop.history.commit(kim, parents=[shop.history.heads["main"]])
    pull = shop.history.propose(kim, "main", first, shop.history.commit(lee, parents=[first]))
    shop.history.review(pull, lee)
    sha = shop.history.merge(pull, shop.server.clock.now())
    assert not (await shop.find(sha)).reviewed
    shop.history.review(pull, ann)
    assert (await shop.find(sha)).reviewed


ACCOUNTS = [Account(1, "kim"), Account(2, "lee"), Account(3, "ann"), Account(4, "robot", person=False), None]
REVIEWS = st.builds(Review, st.sampled_from(ACCOUNTS), st.sampled_from(ReviewState), st.sampled_from(["head", "old"]))
COMMITS = st.builds(Commit, st.just("c"), st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS))


@given(st.lists(REVIEWS, max_size=8), st.lists(COMMITS, max_size=4), st.sampled_from(ACCOUNTS))
def test_whoever_counts_as_a_reviewer_is_another_person_whose_last_word_is_yes(reviews, commits, author):
    pull = PullRequest(1, author, "main", 1, "head")
    writers = writers_of(pull, commits)
    for one in approved_by(pull, reviews) if writers is not None else ():
        said = [review for review in reviews if review.reviewer == one and review.state is not ReviewState.OTHER]
        assert said[-1] == Review(one, ReviewState.APPROVED, "head")
        assert one.person
        if one.id not in writers:
            assert author != one
            assert all(one not in (commit.author, commit.committer) for commit in commits)


async def test_a_part_of_nobody_known_may_be_the_reviewers(shop):
    kim = shop.person("kim")
    first = shop.history.commit(None, parents=[shop.history.heads["main"]])
    pull = shop.history.propose(kim, "main", first, shop.history.commit(kim, parents=[first]))
    shop.history.review(pull, shop.person("lee"))
    assert not (await shop.find(shop.history.merge(pull, shop.server.clock.now()))).reviewed


@pytest.mark.parametrize("state", ["CHANGES_REQUESTED", "DISMISSED"])
async def test_the_last_word_of_a_reviewer_counts(shop, state):
    lee = shop.person("lee")
    sha = shop.squashed(lee)
    pull = shop.history.pulls[1]
    shop.history.review(pull, lee, state)
    shop.history.review(pull, lee, "COMMENTED")
    assert not (await shop.find(sha)).reviewed
    shop.history.review(pull, lee)
    assert (await shop.find(sha)).reviewed


async def test_an_approval_of_an_earlier_state_is_none_of_the_last(shop):
    kim, lee = shop.person("kim"), shop.person("lee")
    first = shop.history.commit(kim, parents=[shop.history.heads["main"]])
    pull = shop.history.propose(kim, "main", first, shop.history.commit(kim, parents=[first]))
    shop.history.review(pull, lee, commit=first)
    assert not (await shop.find(shop.history.merge(pull, shop.server.clock.now()))).reviewed


async def test_a_machine_reviews_nothing(shop):
    assert not (await shop.find(shop.squashed(shop.person("robot", "write", "Bot")))).reviewed


async def test_more_commits_than_github_shows_may_be_anybodys(shop):
    kim = shop.person("kim")
    parent, commits = shop.history.heads["main"], []
    for _ in range(260):
        parent = shop.history.commit(kim, parents=[parent])
        commits.append(parent)
    pull = shop.history.propose(kim, "main", *commits)
    shop.history.review(pull, shop.person("lee"))
    assert not (await shop.find(shop.history.merge(pull, shop.server.clock.now()))).reviewed


async def test_without_pull_requests_contents_are_enough(tmp_path):
    async with opened(
        tmp_path, credential=lambda server: app_credential(server, tmp_path, permissions=READS_COMMITS)
    ) as found:
        shop = Shop(found.server, found.github)
        shop.history.commit(shop.person("kim"), branch="main")
        facts = await shop.find(shop.squashed(shop.person("lee")), CommitRules(pull_requests=False))
        assert (facts.protected, facts.commit_verified, facts.merged, facts.reviewed) == (True, True, False, False)


async def test_a_comparison_never_fetches_the_changes(shop):
    """A commit that is ahead of the branch would bring all its files, up to what no answer may have."""
    sha = shop.history.commit(shop.person("kim"), parents=[shop.history.heads["main"]])
    assert (await shop.find(sha)).reason == "on_no_release_branch"


@pytest.mark.parametrize("part", ["compare", "commits/{sha}/pulls", "reviews", "permission", "branches", "/{repo}"])
@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault.UNAVAILABLE, errors.UnavailableError),
        (Fault.GARBAGE, errors.UnavailableError),
        (Fault.FORBIDDEN, errors.ForbiddenError),
        (Fault.LIMIT_USED_UP, errors.RateLimitedError),
    ],
)
async def test_trouble_at_any_place_is_an_error_and_never_a_fact(shop, part, fault, raised):
    sha = shop.squashed(shop.person("lee"))
    shop.server.faults.add(fault, part, times=50, seconds=900)
    with pytest.raises(raised):
        await shop.find(sha)


async def test_a_token_without_pull_requests_is_told_so(tmp_path):
    async with opened(tmp_path, credential=lambda server: app_credential(server, tmp_path)) as found:
        shop = Shop(found.server, found.github)
        shop.history.commit(shop.person("kim"), branch="main")
        with pytest.raises(errors.ForbiddenError) as refused:
            await shop.find(shop.history.heads["main"])
        assert "Pull requests: read" in refused.value.fix
