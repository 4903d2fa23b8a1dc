"""What counts on which question, and the name of the reason why something does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.evidence.approvals.judging import Limits
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.approvals.statements import SECOND, moment
from orchestrator.model.job import Caller
from orchestrator.testing.approvals import (
    ALICE,
    BOB,
    BUILT,
    CAROL,
    COMMIT,
    DAVE,
    DEPLOYER,
    DIGEST,
    EVERYBODY,
    GITHUB,
    HOUR,
    IDP,
    OTHER_DIGEST,
    START,
    approval,
    asked,
    exception,
    id_of,
    revocation,
)

COMMIT_OF = {"artifact_digest": "", "repository_id": "42", "issuer": GITHUB, "commit": COMMIT}


async def test_an_approval_counts_for_its_artifact_and_environment(office):
    await office.take(approval(), "alice")
    (row,) = office.approvals()
    assert row == {
        "id": id_of(approval()), "kind": "security", "environment": "prod", "artifact_digest": DIGEST,
        "repository_id": "", "commit": "", "approver": "alice", "approver_subjects": ["alice"], "own": False,
        "approved_at": moment(START), "expires_at": moment(START + HOUR), "reason": "looked at it",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("predicate", "given", "reason"),
    [
        (approval(), {"environment": "staging"}, "approval_other_environment"),
        (approval(), {"artifact_digest": OTHER_DIGEST}, "approval_other_artifact"),
        (approval(), {"artifact_digest": ""}, "approval_other_artifact"),
        (approval(**COMMIT_OF), {}, ""),
        (approval(**COMMIT_OF), {"built": BUILT | {"sha": "d" * 40}}, "approval_other_commit"),
        (approval(**COMMIT_OF), {"built": BUILT | {"repository_id": "43"}}, "approval_other_repository"),
        (approval(**COMMIT_OF), {"built": BUILT | {"caller_issuer": IDP}}, "approval_other_repository"),
        (approval(**COMMIT_OF), {"built": {}}, "approval_other_repository"),
        # Without an artifact the job's own commit is what it deploys.
        (approval(**COMMIT_OF), {"artifact_digest": "", "built": {}}, ""),
        (approval(**COMMIT_OF | {"commit": "d" * 40}), {"artifact_digest": "", "built": {}}, "approval_other_commit"),
        (exception(repository_id="42", issuer=GITHUB), {}, ""),
        (exception(repository_id="43", issuer=GITHUB), {}, "approval_other_repository"),
        (exception(repository_id="42", issuer=IDP), {}, "approval_other_repository"),
        (exception(), {"environment": "staging"}, "approval_other_environment"),
        (exception(), {"artifact_digest": OTHER_DIGEST}, "approval_other_artifact"),
        (exception(job="dispatch.2.1"), {}, "approval_other_job"),
        (exception(job="dispatch.1.1"), {}, ""),
    ],
)
async def test_scope(office, predicate, given, reason):
    await office.take(predicate, "alice", "bob", "carol")
    assert office.why(predicate, asked(**given)) == reason


async def test_time(office):
    await office.take(approval(), "alice")
    for now_ns, reason in (
        (START - SECOND, "approval_not_yet_valid"),
        (START, ""),
        (START + HOUR - SECOND, ""),
        (START + HOUR, "approval_expired"),
        (START + 10 * HOUR, "approval_expired"),
    ):
        office.now_ns = now_ns
        assert office.why(approval()) == reason
        assert bool(office.approvals()) is (reason == "")


async def test_one_person_counts_once_whatever_keys_they_have(office):
    await office.take(approval(), "alice", "alice-second")
    await office.take(approval(reason="again"), "alice-second")
    assert [row["approver"] for row in office.approvals()] == ["alice"]


async def test_two_people_are_two_approvals(office):
    await office.take(approval(), "alice", "bob")
    assert sorted(row["approver"] for row in office.approvals()) == ["alice", "bob"]


@pytest.mark.parametrize(
    "own",
    [
        replace(ALICE, identities=frozenset({(GITHUB, DEPLOYER.subject)})),
        replace(ALICE, facts={"actor_id": frozenset({"900"})}),
        replace(ALICE, identities=frozenset({(GITHUB, "builder")})),  # who had the artifact built
    ],
)
async def test_an_approval_of_ones_own_is_told_as_such(opening, own):
    office = await opening(People((own, BOB, CAROL, DAVE), "sha256:x"))
    await office.take(approval(), "alice")
    assert [row["own"] for row in office.approvals()] == [True]
    await office.take(exception(), "alice", "bob", "carol")
    assert office.why(exception()) == "approval_own"
    await office.take(exception(), "dave")
    assert [row["approvers"] for row in office.exceptions()] == [["bob", "dave"]]


async def test_the_same_subject_of_another_issuer_is_somebody_else(opening):
    office = await opening(People((replace(ALICE, identities=frozenset({(IDP, DEPLOYER.subject)})), BOB), "sha256:x"))
    await office.take(approval(), "alice")
    assert [row["own"] for row in office.approvals()] == [False]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("alice", "bob"), "exception_requester_unsigned"),
        (("carol",), "exception_approvers_missing"),
        (("carol", "alice"), "exception_approvers_missing"),
        (("carol", "alice", "alice-second"), "exception_approvers_missing"),
        (("carol", "alice", "mallory"), "exception_approvers_missing"),
        (("carol", "alice", "bob"), ""),
    ],
)
async def test_break_glass_needs_two_others(office, names, reason):
    await office.take(exception(), *names)
    assert office.why(exception()) == reason
    assert bool(office.exceptions()) is (reason == "")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("carol",), "exception_approvers_missing"),
        (("carol", "bob"), "exception_approvers_missing"),  # may not sign overrides
        (("alice",), "exception_requester_unsigned"),
        (("carol", "alice", "bob"), ""),
        (("carol", "alice"), ""),
    ],
)
async def test_an_override_needs_one_other(office, names, reason):
    await office.take(exception("override"), *names)
    assert office.why(exception("override")) == reason


async def test_whoever_asks_does_not_approve(office):
    own = exception(requested_by="alice")
    await office.take(own, "alice", "alice-second", "bob")
    assert office.why(own) == "exception_approvers_missing"


async def test_somebody_who_is_no_approver_any_more_does_not_count(office):
    await office.take(exception(), "alice", "bob", "carol")
    assert office.exceptions()
    office.book.ledger.people = People((ALICE, CAROL, DAVE), "sha256:fewer")
    assert office.why(exception()) == "exception_approvers_missing"
    office.book.ledger.people = People((ALICE, replace(BOB, may=()), CAROL), "sha256:fewer")
    assert office.why(exception()) == "exception_approvers_missing"
    office.book.ledger.people = EVERYBODY
    assert office.exceptions()


@pytest.mark.parametrize("predicate", [approval(), exception(), exception("override")])
async def test_a_life_that_is_too_long_counts_for_nobody(opening, predicate):
    office = await opening()
    await office.take(predicate, "alice", "bob", "carol")
    shorter = Limits(max_approval_ns=HOUR - SECOND, max_break_glass_ns=HOUR - SECOND, max_override_ns=HOUR - SECOND)
    office.book.ledger.limits = shorter
    assert office.why(predicate) == "approval_too_long"


async def test_revoked_is_for_ever(office):
    await office.take(exception(), "alice", "bob", "carol")
    await office.take(revocation(exception()), "carol")
    assert office.why(exception()) == "approval_revoked"
    office.now_ns += SECOND
    assert not office.exceptions()


async def test_a_job_of_a_caller_without_facts(office):
    await office.take(exception(repository_id="42", issuer=GITHUB), "alice", "bob", "carol")
    nobody = asked(caller=Caller(GITHUB, "repo:acme/shop"))
    assert office.why(exception(repository_id="42", issuer=GITHUB), nobody) == "approval_other_repository"
