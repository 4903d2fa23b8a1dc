"""Verification summaries in the daemon: from what was judged, one for what says the same, also after a restart."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.daemon.promotion import summary as module
from orchestrator.daemon.promotion.summary import Summaries
from orchestrator.errors import GiveUpError
from orchestrator.evidence.envelope import open_envelope
from orchestrator.evidence.provenance import IN_TOTO
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.summary import Verifier
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict, Waiver
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.record import Record
from orchestrator.policy.decide import Answered
from orchestrator.policy.document import Evaluation
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal

APP = "sha256:" + "a" * 64
ONE, TWO, CONSENT = ("sha256:" + digit * 64 for digit in "123")
SPEC = JobSpec("deploy", PoolName("default"), "x", deployment_environment="prod", artifact_digest=APP)
OFFER = JobOffer(JobKey("dispatch", "d1"), SPEC, Caller("https://i.example", "s"))
RECORD = Record(OFFER, 1)
KEY = generate_evidence_key()


def judged(*signatures: str, approvals=(CONSENT,)) -> bytes:
    artifact = {"digest": APP, "signatures": [{"attestation": one} for one in signatures]}
    return json.dumps({"artifact": artifact, "approvals": [{"id": one} for one in approvals]}).encode()


def decision(name="d1", **changes) -> Decision:
    return replace(Decision(name, Stage.EXCHANGE, Verdict.ALLOW, bundle_digest="sha256:b"), **changes)


def answer(decided: Decision, text: bytes, record: Record = RECORD) -> Answered:
    return Answered(decided, Evaluation(decided.verdict), record, 1, text)


@pytest.fixture
async def journal() -> MemoryJournal:
    made = MemoryJournal(SteppedClock())
    await made.append([(OFFER.key.id, events.JobOffered(OFFER))])
    return made


def summaries(journal) -> Summaries:
    return Summaries(journal, KEY, Verifier("https://ci.example", "0"), SteppedClock())


async def asked(desk: Summaries, decided: Decision, text: bytes):
    desk.answered(answer(decided, text))
    return await desk(RECORD, decided)


async def test_it_rests_on_exactly_what_was_judged_and_on_the_exceptions_that_were_used(journal):
    decided = decision(waivers=(Waiver(TWO, ("ticket_missing",)),))
    made = await asked(summaries(journal), decided, judged(ONE))
    statement = json.loads(open_envelope(made.signed.envelope, IN_TOTO, {KEY.id: KEY.public}))
    inputs = [f"sha256:{one['digest']['sha256']}" for one in statement["predicate"]["inputAttestations"]]
    assert sorted(inputs) == [ONE, TWO, CONSENT]
    assert (made.signed.artifact_digest, made.signed.environment, made.signed.decision_id) == (APP, "prod", "d1")
    assert made.digest == made.signed.digest


async def test_what_says_the_same_is_signed_once_and_anew_when_an_input_changes(journal):
    desk = summaries(journal)
    first = await asked(desk, decision("d1"), judged(ONE))
    unrecorded = await asked(desk, decision("d2"), judged(ONE))
    assert unrecorded.signed is not None  # nothing counts that is not on record
    await journal.append([(OFFER.key.id, first.signed)])
    again = await asked(desk, decision("d3"), judged(ONE))
    assert (again.digest, again.signed) == (first.digest, None)
    for text in (judged(ONE, TWO), judged(ONE, approvals=())):
        other = await asked(desk, decision("d4"), text)
        assert other.signed is not None
        assert other.digest != first.digest


async def test_a_new_daemon_knows_the_last_one_from_the_journal(journal):
    first = await asked(summaries(journal), decision("d1"), judged(ONE))
    await journal.append([(OFFER.key.id, first.signed)])
    again = await asked(summaries(journal), decision("d2"), judged(ONE))
    assert (again.digest, again.signed) == (first.digest, None)


async def test_without_what_was_judged_there_is_none(journal, monkeypatch):
    desk = summaries(journal)
    denied = decision(verdict=Verdict.DENY)
    for heard in (denied, decision(stage=Stage.ADMISSION)):
        desk.answered(answer(heard, judged(ONE)))
    with pytest.raises(GiveUpError) as unmade:
        await desk(RECORD, decision())
    assert unmade.value.reason == "summary_unmade"
    monkeypatch.setattr(module, "_MOST_PENDING", 2)
    for name in ("d1", "d2", "d3"):
        desk.answered(answer(decision(name), judged(ONE)))
    with pytest.raises(GiveUpError):
        await desk(RECORD, decision("d1"))
    assert (await desk(RECORD, decision("d3"))).signed is not None


@pytest.mark.parametrize("changes", [{"deployment_environment": ""}, {"artifact_digest": ""}])
async def test_a_job_that_deploys_nothing_by_digest_has_none(journal, changes):
    desk = summaries(journal)
    record = Record(replace(OFFER, spec=replace(SPEC, **changes)), 1)
    desk.answered(answer(decision(), judged(ONE), record))
    assert await desk(record, decision()) is None
