"""What is taken in, what is refused by name, what is counted, and that it all is there after a restart."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import replace

import pytest

from orchestrator.errors import TryAgainError
from orchestrator.evidence.approvals import book as book_room
from orchestrator.evidence.approvals.book import KEPT_NS, Endorser
from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.judging import Limits
from orchestrator.evidence.approvals.ledger import signed_by
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.approvals.refusal import FIXES, ApprovalRefusedError
from orchestrator.evidence.approvals.statements import SECOND, Endorsement, moment, statement_bytes
from orchestrator.model.job import Caller
from orchestrator.testing.approvals import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    DIGEST,
    GITHUB,
    HOUR,
    IDP,
    OTHER_DIGEST,
    START,
    approval,
    asked,
    exception,
    id_of,
    public,
    review,
    revocation,
    signed,
)

BOBS = Endorser(IDP, "bob@acme", DIGEST)


async def refused(doing) -> str:
    with pytest.raises(ApprovalRefusedError) as error:
        await doing
    assert error.value.reason in FIXES
    assert error.value.fix
    return error.value.reason


async def test_signatures_come_one_after_the_other(office):
    first = await office.take(exception(), "carol")
    assert first.fresh
    assert first.people == ("carol",)
    assert not (await office.take(exception(), "carol")).fresh
    await office.take(exception(), "alice")
    last = await office.take(exception(), "bob")
    assert last.people == ("alice", "bob", "carol")
    assert office.exceptions()


async def test_nobody_in_the_file(office):
    assert await refused(office.take(approval(), "mallory")) == "approval_signer_unknown"
    assert await refused(office.take(approval())) == "approval_signer_unknown"
    assert not office.book.ledger.objects


async def test_who_adds_a_signature_that_cannot_count_is_told(office):
    await office.take(exception(), "carol")
    assert await refused(office.take(exception(), "mallory")) == "approval_signer_unknown"
    assert await refused(office.take(exception(), "carol", "mallory")) == "approval_signer_unknown"
    await office.take(exception("override"), "carol")
    assert await refused(office.take(exception("override"), "bob")) == "approval_not_permitted"
    await office.take(exception(), "alice")
    assert (await office.take(exception(), "bob", "mallory")).people == ("alice", "bob", "carol")
    assert not (await office.take(exception(), "carol")).fresh


async def test_a_forgery(office):
    good = signed(approval(artifact_digest=OTHER_DIGEST), "alice")
    forged = Envelope(statement_bytes(approval()), good.signatures)
    assert await refused(office.take(forged)) == "approval_forged"


async def test_a_signature_in_anothers_name(office):
    forged = signed(exception(), "carol").with_signature(
        next(iter(public("alice"))), next(iter(signed(exception(), "mallory").signatures.values()))
    )
    assert await refused(office.take(forged)) == "approval_forged"


async def test_who_may_not(office):
    assert await refused(office.take(approval(), "carol")) == "approval_not_permitted"
    assert await refused(office.take(approval(environment="staging"), "alice")) == "approval_not_permitted"
    assert await refused(office.take(approval(kind="release"), "alice")) == "approval_not_permitted"
    assert await refused(office.take(exception("override"), "bob")) == "approval_not_permitted"


async def test_what_can_never_count(office):
    office.now_ns = START + HOUR
    assert await refused(office.take(approval(), "alice")) == "approval_expired"
    long = approval(expires_at=moment(START + 8 * 24 * HOUR))
    assert await refused(office.take(long, "alice")) == "approval_too_long"
    assert await refused(office.take(exception(max_uses=21), "carol")) == "approval_too_long"
    long = exception(expires_at=moment(START + 5 * HOUR))
    assert await refused(office.take(long, "carol")) == "approval_too_long"


async def test_nothing_is_signed_for_far_ahead(office):
    office.now_ns = START - 5 * HOUR
    assert await refused(office.take(exception(), "carol")) == "approval_too_long"
    office.now_ns = START - 4 * HOUR
    await office.take(exception(), "carol")
    assert office.why(exception()) == "approval_not_yet_valid"


async def test_what_is_revoked_gets_no_more_signatures(office):
    await office.take(exception(), "carol")
    await office.take(revocation(exception()), "alice")  # may sign break_glass
    assert await refused(office.take(exception(), "bob")) == "approval_revoked"


async def test_who_may_revoke(office):
    await office.take(exception(), "alice", "bob", "carol")
    assert await refused(office.take(revocation(approval()), "alice")) == "approval_unknown"
    assert await refused(office.take(revocation(exception()), "mallory")) == "approval_signer_unknown"
    office.book.ledger.people = People((ALICE, BOB, CAROL), "sha256:x")
    other = approval(reason="alice's")
    await office.take(other, "alice")
    assert await refused(office.take(revocation(other), "carol")) == "approval_not_permitted"


async def test_who_signed_is_found_out_beside_the_loop_and_never_from_what_was_before(office):
    await office.take(exception(), "alice", "carol")
    await office.take(approval(), "alice")
    ledger = office.book.ledger
    found = signed_by(People((BOB, CAROL), "sha256:y"), list(ledger.objects.values()))
    await office.take(exception(), "bob")  # meanwhile
    ledger.put_in_force(People((BOB, CAROL), "sha256:y"), found)
    assert ledger.signers(ledger.objects[id_of(exception())]) == {"bob", "carol"}
    assert ledger.signers(ledger.objects[id_of(approval())]) == frozenset()


async def test_the_operator_revokes(office):
    await office.take(approval(), "alice")

    async def agreed(_taken) -> None:
        return None

    taken = await office.book.revoke(id_of(approval()), "wrong build", "operator", START, agreed)
    assert taken.fresh
    assert office.why(approval()) == "approval_revoked"
    assert not (await office.book.revoke(id_of(approval()), "again", "operator", START, agreed)).fresh
    assert await refused(office.book.revoke(DIGEST, "no such", "operator", START, agreed)) == "approval_unknown"
    assert await refused(office.book.revoke(id_of(approval()) + "x", "", "o", START, agreed)) == "approval_unknown"


async def test_a_token_signs_as_a_key_does(office):
    await office.take(exception(), "alice", "carol")
    taken = await office.take(exception(), endorser=BOBS)
    assert taken.people == ("alice", "bob", "carol")
    assert office.exceptions()[0]["approvers"] == ["alice", "bob"]
    # bob's key and bob's token are one person.
    other = exception(reason="another")
    await office.take(other, "carol", "bob")
    await office.take(other, endorser=BOBS)
    assert office.why(other) == "exception_approvers_missing"


async def test_only_the_control_plane_gives_its_word_on_tokens(office):
    said = Endorsement(object=id_of(approval()), issuer=IDP, subject="bob@acme", token=DIGEST, at=moment(START))
    assert await refused(office.take(said, "alice")) == "approval_malformed"
    assert await refused(office.take(said, "daemon")) == "approval_malformed"


async def test_nothing_counts_before_it_is_told(office):
    async def full(_taken) -> None:
        raise TryAgainError("no audit log", reason="audit_unavailable")

    with pytest.raises(TryAgainError):
        await office.book.take(signed(approval(), "alice"), "test", START, full)
    assert not office.approvals()


async def test_no_more_than_so_many(office, monkeypatch):
    monkeypatch.setattr(book_room, "MAX_OBJECTS", 1)
    await office.take(exception(), "carol")
    with pytest.raises(TryAgainError) as error:
        await office.take(approval(), "alice")
    assert error.value.reason == "approvals_full"
    await office.take(exception(), "alice")  # more signatures of one that is there
    # Whoever fills it keeps nobody from taking back what was signed.
    await office.take(revocation(exception()), "alice")
    assert office.why(exception()) == "approval_revoked"
    with pytest.raises(TryAgainError):
        await office.take(revocation(exception(), START + SECOND), "alice")


async def test_a_use_is_counted_once_for_each_job(office):
    predicate = exception(max_uses=2)
    await office.take(predicate, "alice", "bob", "carol")
    (first,) = await office.use(asked(), predicate)
    (again,) = await office.use(asked(), predicate)
    (later,) = await office.use(asked(), predicate, stage="exchange", audience="https://prod.example")
    assert first == again
    assert first.number == later.number == 1
    (second,) = await office.use(asked(job="dispatch.2.1"), predicate)
    assert second.number == 2
    assert await refused(office.use(asked(job="dispatch.3.1"), predicate)) == "exception_exhausted"
    # A job that has used it goes on.
    assert office.exceptions(asked())[0]["uses"] == 1
    assert office.exceptions(asked(job="dispatch.3.1")) == []


async def test_two_jobs_at_once_do_not_share_the_last_use(office):
    await office.take(exception(), "alice", "bob", "carol")
    results = await asyncio.gather(
        *(office.use(asked(job=f"dispatch.{number}.1"), exception()) for number in range(1, 6)), return_exceptions=True
    )
    assert [isinstance(one, ApprovalRefusedError) for one in results].count(False) == 1


async def test_who_stops_waiting_for_a_use_that_is_being_stored_has_used_it(office, monkeypatch):
    """As a token exchange does, or a cluster's review, whose time is up while the disk is slow."""
    await office.take(exception(), "alice", "bob", "carol")
    begun, go_on = threading.Event(), threading.Event()
    store = office.book._store.use

    def slow(uses):
        begun.set()
        assert go_on.wait(10)
        store(uses)

    monkeypatch.setattr(office.book._store, "use", slow)
    first = asyncio.create_task(office.use(asked(), exception()))
    assert await asyncio.to_thread(begun.wait, 10)
    first.cancel()
    second = asyncio.create_task(refused(office.use(asked(job="dispatch.2.1"), exception())))
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "exception_exhausted"
    assert [use.number for use in await office.use(asked(), exception())] == [1]
    assert [use.job for use in office.book._store.uses()] == [asked().job]


async def test_what_cannot_be_used(office):
    await office.take(exception(), "alice", "bob", "carol")
    await office.take(approval(), "alice")
    assert await refused(office.book.use(asked(), "admission", "", "d", {DIGEST: ("x",)}, START)) == "approval_unknown"
    as_exception = {id_of(approval()): ("x",)}
    assert await refused(office.book.use(asked(), "admission", "", "d", as_exception, START)) == "approval_unknown"
    more = {id_of(exception()): ("scan_missing", "artifact_unsigned")}
    assert await refused(office.book.use(asked(), "admission", "", "d", more, START)) == "approval_not_permitted"
    assert await refused(office.use(asked(environment="staging"), exception())) == "approval_other_environment"
    office.now_ns = START + HOUR
    assert await refused(office.use(asked(), exception())) == "approval_expired"
    assert office.book.ledger.uses_of(id_of(exception())) == []


async def test_all_exceptions_of_a_decision_or_none(office):
    late = exception("override", expires_at=moment(START + 60 * SECOND))
    await office.take(exception(), "alice", "bob", "carol")
    await office.take(late, "alice", "carol")
    office.now_ns = START + 61 * SECOND
    assert await refused(office.use(asked(), exception(), late)) == "approval_expired"
    assert office.book.ledger.uses_of(id_of(exception())) == []


async def test_a_review(office):
    await office.take(exception(), "alice", "bob", "carol")
    assert await refused(office.take(review(exception()), "dave")) == "approval_unused"
    await office.use(asked(), exception())
    assert office.book.ledger.unreviewed(START) == [id_of(exception())]
    assert await refused(office.take(review(exception()), "alice")) == "approval_own_review"
    assert await refused(office.take(review(exception()), "bob")) == "approval_not_permitted"
    assert await refused(office.take(review(approval()), "dave")) == "approval_unknown"
    await office.take(review(exception()), "dave")
    assert office.book.ledger.unreviewed(START) == []


async def test_whoever_ran_the_job_does_not_review_it(opening):
    dave = replace(DAVE, facts={"actor_id": frozenset({"900"})})
    office = await opening(People((ALICE, BOB, CAROL, dave), "sha256:x"))
    await office.take(exception(), "alice", "bob", "carol")
    await office.use(asked(), exception())
    assert await refused(office.take(review(exception()), "dave")) == "approval_own_review"


async def test_what_is_not_reviewed_in_time_ends_break_glass_there(office):
    await office.take(exception(), "alice", "bob", "carol")
    await office.use(asked(), exception())
    office.now_ns = START + 3 * 24 * HOUR
    life = {"starts_at": moment(office.now_ns), "expires_at": moment(office.now_ns + HOUR)}
    later, override = exception(**life), exception("override", **life)
    await office.take(later, "alice", "bob", "carol")
    await office.take(override, "alice", "carol")
    assert office.why(later) == "exception_review_overdue"
    assert office.why(override) == ""
    elsewhere = asked(caller=Caller(GITHUB, "repo:acme/other", {"repository_id": "43"}))
    assert office.why(later, elsewhere) == ""
    assert office.why(later, asked(caller=Caller(GITHUB, "x"))) == "exception_review_overdue"
    await office.take(review(exception()), "dave")
    assert office.why(later) == ""


async def test_nobody_has_to_review_where_the_settings_say_so(opening):
    office = await opening(limits=Limits(review_ns=0))
    await office.take(exception(), "alice", "bob", "carol")
    await office.use(asked(), exception())
    assert office.book.ledger.unreviewed(START + 1000 * HOUR, overdue=True) == []


async def test_everything_is_there_after_a_restart(opening):
    office = await opening()
    await office.take(exception(), "alice", "carol")
    await office.take(exception(), endorser=BOBS)
    await office.take(approval(), "alice")
    await office.take(revocation(approval()), "alice")
    (use,) = await office.use(asked(), exception())
    assert office.book.untold([use]) == [use]
    await office.book.tell([use])
    office = await opening()
    assert office.why(approval()) == "approval_revoked"
    assert office.why(exception(), asked(job="dispatch.2.1")) == "exception_exhausted"
    assert office.exceptions()[0]["approvers"] == ["alice", "bob"]
    assert office.book.ledger.uses_of(id_of(exception())) == [use]
    assert office.book.untold([use]) == []


async def test_a_store_that_somebody_wrote_into_proves_nothing(opening, tmp_path):
    office = await opening()
    await office.take(exception(), "alice", "carol")
    office.book.close()
    database = sqlite3.connect(tmp_path / "approvals.db")
    name = id_of(exception())
    said = Endorsement(object=name, issuer=IDP, subject="bob@acme", token=DIGEST, at=moment(START))
    forged = signed(said, "mallory").text()
    database.execute("INSERT INTO endorsements VALUES (?, ?, ?, ?)", (name, IDP, "bob@acme", forged))
    payload = statement_bytes(approval(artifact_digest=OTHER_DIGEST))
    database.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", (id_of(approval()), payload, 1, "x"))
    database.execute("UPDATE signatures SET signature = x'00' WHERE keyid = ?", (next(iter(public("alice"))),))
    database.commit()
    database.close()
    office = await opening()
    assert office.why(exception()) == "exception_requester_unsigned"  # one false signature, and none of them counts
    assert id_of(approval()) not in office.book.ledger.objects


async def test_what_ended_long_ago_is_forgotten_once_it_is_reviewed(opening):
    office = await opening()
    await office.take(exception(), "alice", "bob", "carol")
    await office.take(approval(), "alice")
    await office.take(revocation(approval()), "alice")
    await office.use(asked(), exception())
    long_after = START + KEPT_NS + 2 * HOUR
    office = await opening(now_ns=long_after)
    assert list(office.book.ledger.objects) == [id_of(exception())]
    await office.take(review(exception()), "dave")
    office = await opening(now_ns=long_after)
    assert office.book.ledger.objects == {}


async def test_uses_are_counted_from_the_start_and_once(opening):
    """It is a counter of Prometheus: one that begins with what is kept, or falls when that is forgotten, is taken for
    as many new uses."""
    office = await opening()
    await office.take(exception(), "alice", "bob", "carol")
    await office.use(asked(), exception())
    await office.use(asked(), exception())
    assert office.book.use_count == 1, "of the same question"
    office.book.ledger.drop([id_of(exception())])
    assert office.book.use_count == 1
    again = await opening()
    assert len(again.book.ledger.uses_of(id_of(exception()))) == 1
    assert again.book.use_count == 0


async def test_a_store_that_cannot_be_opened(opening, tmp_path):
    (tmp_path / "approvals.db").write_bytes(b"no database at all, and long enough to be looked at" * 100)
    with pytest.raises(TryAgainError) as error:
        await opening()
    assert error.value.reason == "approvals_unavailable"
