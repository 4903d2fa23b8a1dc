"""Whatever people sign, in whatever order and with whatever is wrong in it: no exception gets through that should not.

The book is compared with a judge that knows nothing of it: a list of what was signed, revoked and used, read from the
start at each question.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.evidence.approvals.book import Book, Taken
from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.judging import Asked, Limits
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import SECOND, RuleException, moment, moment_ns, statement_bytes
from orchestrator.model.job import Caller
from orchestrator.testing.approvals import (
    DIGEST,
    GITHUB,
    KEYS,
    OTHER_DIGEST,
    START,
    exception,
    id_of,
    person,
    review,
    revocation,
    signed,
)

MINUTE = 60 * SECOND
# Each of them may deploy, too: an own job is one whose actor is they.
PEOPLE = People(
    [
        person(
            name,
            *(("break_glass", "override", "review") if name != "carol" else ()),
            keys=("alice-second",) if name == "alice" else (),
            facts={"actor": frozenset({name})},
        )
        for name in ("alice", "bob", "carol", "dave")
    ],
    "sha256:people",
)
LIMITS = Limits(max_break_glass_ns=60 * MINUTE, max_override_ns=30 * MINUTE, max_uses=2, review_ns=40 * MINUTE)
NAMES = st.sampled_from(["alice", "alice-second", "bob", "carol", "dave", "mallory"])
MOSTLY_PROD = ["prod"] * 5 + ["staging"]
MOSTLY_ONE = [DIGEST] * 5 + [OTHER_DIGEST]
MINUTES = st.integers(min_value=0, max_value=60)


@st.composite
def exceptions(draw: st.DrawFn) -> RuleException:
    kind = draw(st.sampled_from(["break_glass", "override"]))
    starts = draw(st.sampled_from([0, 0, 0, 10]))
    return exception(
        kind,
        environment=draw(st.sampled_from(MOSTLY_PROD)),
        artifact_digest=draw(st.sampled_from(MOSTLY_ONE)),
        requested_by=draw(st.sampled_from(["alice", "bob", "carol", "dave"])),
        starts_at=moment(START + starts * MINUTE),
        expires_at=moment(START + (starts + draw(st.sampled_from([20, 30, 30, 60, 70]))) * MINUTE),
        max_uses=draw(st.sampled_from([1, 1, 2, 2, 3])),
    )


@st.composite
def questions(draw: st.DrawFn) -> Asked:
    actor = draw(st.sampled_from(["eve"] * 4 + ["alice", "bob", "carol", "dave"]))
    caller = Caller(GITHUB, f"repo:{actor}", {"actor": actor, "repository_id": "42"})
    digest = draw(st.sampled_from(MOSTLY_ONE))
    return Asked(f"dispatch.{draw(st.integers(0, 3))}.1", caller, draw(st.sampled_from(MOSTLY_PROD)), digest)


STEPS = st.one_of(
    st.tuples(st.just("sign"), st.integers(0, 2), st.lists(NAMES, min_size=2, max_size=6)),
    st.tuples(st.just("forge"), st.integers(0, 2), st.lists(NAMES, min_size=1, max_size=3)),
    st.tuples(st.just("revoke"), st.integers(0, 2), NAMES),
    st.tuples(st.just("review"), st.integers(0, 2), NAMES),
    st.tuples(st.just("use"), questions(), MINUTES),
    st.tuples(st.just("use"), questions(), MINUTES),
    st.tuples(st.just("use"), questions(), MINUTES),
)


@dataclass
class Judge:
    """Says by itself what may count: by names, minutes and counts only."""

    signers: dict[str, set[str]] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    uses: dict[str, set[str]] = field(default_factory=dict)

    def may(self, one: RuleException, asked: Asked, now_ns: int) -> bool:
        name, actor = id_of(one), asked.caller.facts["actor"]
        signed_by = {who.removesuffix("-second") for who in self.signers.get(name, ())} - {"mallory"}
        approvers = signed_by - {one.requested_by, actor, "carol"}
        longest = 60 if one.kind == "break_glass" else 30
        now = moment(now_ns)
        return (
            name not in self.revoked
            and one.requested_by in signed_by
            and len(approvers) >= (2 if one.kind == "break_glass" else 1)
            and one.starts_at <= now < one.expires_at
            and _minutes(one) <= longest
            and one.max_uses <= 2
            and len(self.uses.get(name, set()) - {asked.job}) < one.max_uses
            and one.environment == "prod"  # where these people may sign
            and (one.environment, one.artifact_digest) == (asked.environment, asked.artifact_digest)
        )


def _minutes(one: RuleException) -> float:
    return (moment_ns(one.expires_at) - moment_ns(one.starts_at)) / MINUTE


async def _agreed(_taken: Taken) -> None:
    return None


@settings(deadline=None, max_examples=25)
@given(
    st.lists(exceptions(), min_size=3, max_size=3),
    st.lists(st.sets(NAMES, min_size=4), min_size=3, max_size=3),
    st.lists(STEPS, min_size=4, max_size=14),
    st.sampled_from([0, 0, 5, 35]),
)
def test_no_order_of_objects_lets_through_what_should_not(wanted, first, steps, began):
    begun = [("sign", index, sorted(names)) for index, names in enumerate(first)]
    with TemporaryDirectory() as folder:
        asyncio.run(_play(Path(folder), wanted, [*begun, *steps], START + began * MINUTE))


async def _play(folder: Path, wanted: list[RuleException], steps: list, now_ns: int) -> None:
    book = await Book.open(folder / "approvals.db", PEOPLE, LIMITS, KEYS["daemon"], now_ns)
    judge = Judge()
    try:
        for step in steps:
            match step:
                case ("sign", index, names):
                    await _sign(book, judge, wanted[index], names, now_ns)
                case ("forge", index, names):
                    await _forge(book, wanted[index], names, now_ns)
                case ("revoke", index, name):
                    with contextlib.suppress(ApprovalRefusedError):
                        await book.take(signed(revocation(wanted[index]), name), "test", now_ns, _agreed)
                        judge.revoked.add(id_of(wanted[index]))
                case ("review", index, name):
                    with contextlib.suppress(ApprovalRefusedError):
                        await book.take(signed(review(wanted[index]), name), "test", now_ns, _agreed)
                case ("use", asked, minutes):
                    now_ns += minutes * MINUTE // 6
                    await _use(book, judge, wanted, asked, now_ns)
    finally:
        book.close()


async def _sign(book: Book, judge: Judge, one: RuleException, names: list[str], now_ns: int) -> None:
    with contextlib.suppress(ApprovalRefusedError):
        await book.take(signed(one, *names), "test", now_ns, _agreed)
        judge.signers.setdefault(id_of(one), set()).update(names)


async def _forge(book: Book, one: RuleException, names: list[str], now_ns: int) -> None:
    """Signatures of something milder under this: nothing of it may ever count."""
    milder = signed(exception("override", reason="milder", requested_by=one.requested_by), *names)
    with contextlib.suppress(ApprovalRefusedError):
        await book.take(Envelope(statement_bytes(one), milder.signatures), "test", now_ns, _agreed)


async def _use(book: Book, judge: Judge, wanted: list[RuleException], asked: Asked, now_ns: int) -> None:
    told = {row["id"] for row in book.ledger.rows(asked, now_ns)[1]}
    for one in wanted:
        name = id_of(one)
        may = judge.may(one, asked, now_ns)
        assert may or name not in told
        # It is refused where it may; but for a review that is due, nothing else refuses it.
        assert not may or name in told or book.ledger.unreviewed(now_ns, overdue=True)
        try:
            await book.use(asked, "admission", "", "decision", {name: one.waives}, now_ns)
        except ApprovalRefusedError:
            assert name not in told
        else:
            assert may
            judge.uses.setdefault(name, set()).add(asked.job)
