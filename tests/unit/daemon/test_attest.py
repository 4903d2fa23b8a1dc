"""What is signed at a job's end, of which ends, and that a second try signs nothing twice."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from orchestrator.daemon.records.attest import EvidenceAttester, EvidenceKeeping, ReportDesk
from orchestrator.evidence import attestation_store
from orchestrator.evidence.attestation_store import AttestationStore, Standing
from orchestrator.evidence.attestations.making import REPORTER, SIGNATURE_TYPE
from orchestrator.evidence.envelope import open_envelope, sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, Builder
from orchestrator.evidence.reported import CYCLONEDX, VULNERABILITIES
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.store import EvidenceStore
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.model import events
from orchestrator.model.decision import Decision, Stage, Verdict, Waiver
from orchestrator.model.egress import EgressProof
from orchestrator.model.job import Caller, JobKey, JobOffer, JobSpec, PoolName
from orchestrator.model.outcome import EndReason, Outcome, Result
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.model.record import fold
from orchestrator.model.runner import RunnerName
from orchestrator.testing.clock import SteppedClock
from orchestrator.testing.journal import MemoryJournal

APP = "sha256:" + "a" * 64
BASE = "sha256:" + "b" * 64
POOL = Pool(PoolName("default"), "sandbox", TrustTier.STANDARD, 4, "host-toolchain", "bubblewrap")
NAME = RunnerName("runner-1")
OFFER = JobOffer(JobKey("dispatch", "b1"), JobSpec("build", POOL.name, "x"), Caller("https://i.example", "s"))
SUCCESS = Outcome(Result.SUCCESS, EndReason.COMPLETED, "done", 0)
FAILURE = Outcome(Result.FAILURE, EndReason.EXIT_NONZERO, "", 3)


@dataclass
class Ended:
    """A job that has ended, and everything around its attester."""

    journal: MemoryJournal
    kept: EvidenceKeeping
    logs: LogStore
    key: Any
    desk: ReportDesk
    reporters: tuple[tuple[str, str], ...] = ()

    def listed(self, kind: str, pool: str, _caller: str) -> bool:
        return (kind, pool) in self.reporters

    def attester(self) -> EvidenceAttester:
        return EvidenceAttester(
            self.journal,
            {POOL.name: POOL},
            Builder("https://ci.example", "0"),
            self.key,
            self.kept,
            self.logs,
            self.listed,
        )

    async def attest(self, attester: EvidenceAttester | None = None):
        record = fold(await self.journal.facts_of(OFFER.key.id))
        return await (attester or self.attester()).attest(record)

    async def run(self, *notes, outcome=SUCCESS, waivers=()):
        decision = Decision("d1", Stage.ADMISSION, Verdict.ALLOW, bundle_digest="sha256:2", waivers=waivers)
        happened = [
            events.JobOffered(OFFER),
            events.JobAdmitted(decision),
            events.ProvisionStarted(NAME, "spec"),
            events.RunnerCreated(NAME, "uid-1"),
            events.RunnerBound(NAME, "uid-1", EgressProof(("dns",))),
            *notes,
            events.JobEnded(outcome),
        ]
        await self.journal.append([(OFFER.key.id, event) for event in happened])

    async def report(self, digest=APP, kind=CYCLONEDX, document=b'{"a": 1}') -> events.ArtifactAttested:
        record = fold([events.Fact(OFFER.key.id, 1, events.JobOffered(OFFER), 1)])
        return await self.desk.report(record, digest, kind, document)

    def statements(self, digest=APP) -> dict[str, dict]:
        found = (open_envelope(one.text, IN_TOTO, {self.key.id: self.key.public}) for one in self.of(digest))
        return {statement["predicateType"]: statement for statement in map(json.loads, found)}

    def of(self, digest=APP):
        return self.kept.attestations.of(digest)


@pytest.fixture
async def ended(tmp_path):
    kept = EvidenceKeeping(
        EvidenceStore(tmp_path / "evidence"), AttestationStore(tmp_path / "a"), ReportedDocuments(tmp_path / "r")
    )
    logs = LogStore(tmp_path / "logs", 1 << 20, Masker())
    yield Ended(MemoryJournal(SteppedClock()), kept, logs, generate_evidence_key(), ReportDesk(kept.reported))
    await logs.close()


BUILT = events.ArtifactReported("app.whl", APP, "application/zip", 1)


async def test_provenance_signature_and_document_are_signed_and_name_the_job(ended):
    await ended.run(BUILT, await ended.report())
    notes = await ended.attest()
    assert [type(note) for note in notes] == [events.ProvenanceSigned, *[events.AttestationSigned] * 2]
    statements = ended.statements()
    assert set(statements) == {"https://slsa.dev/provenance/v1", SIGNATURE_TYPE, CYCLONEDX}
    assert statements[CYCLONEDX]["predicate"] == {"a": 1}
    (subject,) = statements[CYCLONEDX]["subject"]
    assert subject["name"] == "app.whl"
    assert subject["annotations"][REPORTER]["job"] == OFFER.key.id
    assert {note.attestation for note in notes[1:]} <= {one.id for one in ended.of()}
    assert ended.kept.of_record.get(APP) == notes[0].envelope


async def test_a_second_try_and_a_new_daemon_sign_nothing_twice(ended):
    await ended.run(BUILT, await ended.report())
    first = await ended.attest()
    again = await ended.attest()
    assert len(ended.of()) == 3
    ids = [[note.attestation for note in notes if hasattr(note, "attestation")] for notes in (first, again)]
    assert ids[0] == ids[1]


async def test_of_a_job_that_failed_only_scans_are_signed(ended):
    scan = await ended.report(kind=VULNERABILITIES, document=b'{"scan": 1}')
    await ended.run(BUILT, await ended.report(), scan, outcome=FAILURE)
    assert [note.predicate_type for note in await ended.attest()] == [VULNERABILITIES]
    assert ended.kept.of_record.get(APP) == ""


async def test_a_document_about_an_artifact_of_another_job_is_signed_without_a_name(ended):
    await ended.run(await ended.report(digest=BASE))
    (note,) = await ended.attest()
    assert note == events.AttestationSigned(CYCLONEDX, (BASE,), ended.of(BASE)[0].id)
    assert ended.statements(BASE)[CYCLONEDX]["subject"][0]["name"] == ""


async def test_a_document_that_is_gone_or_no_room_for_one_is_an_alarm_and_costs_nothing_else(ended, monkeypatch):
    lost = replace(await ended.report(), predicate_digest="sha256:" + "0" * 64)
    await ended.run(BUILT, lost)
    monkeypatch.setattr(attestation_store, "MOST", dict.fromkeys(Standing, 0))
    notes = await ended.attest()
    assert [type(note) for note in notes] == [events.ProvenanceSigned, events.AlarmRaised, events.AlarmRaised]
    assert [note.alarm for note in notes[1:]] == ["evidence_full", "evidence_lost"]


async def test_a_build_by_an_exception_has_another_builder_and_names_what_was_waived(ended):
    await ended.run(BUILT, waivers=(Waiver("sha256:" + "e" * 64, ("ticket_missing",)),))
    await ended.attest()
    predicate = ended.statements()["https://slsa.dev/provenance/v1"]["predicate"]
    assert predicate["runDetails"]["builder"]["id"].endswith("/sandbox/bubblewrap/standard/waived/v1")
    assert predicate["buildDefinition"]["internalParameters"]["waivers"] == [
        {"exception": "sha256:" + "e" * 64, "codes": ["ticket_missing"]}
    ]


async def test_egress_caches_and_log_are_in_the_provenance(ended):
    said = {"host": "h", "port": 443, "protocol": "https"}
    refused = events.EgressDecided(**said, allowed=False, rule="", reason="no_rule", connections=3)
    canary = events.EgressDecided(**said, allowed=False, rule="", reason="no_rule", canary=True)
    let_out = events.EgressDecided(**said, allowed=True, rule="files.example:443")
    writer = ended.logs.open(OFFER.key.id)
    writer.write(b"hello\n")
    await ended.run(BUILT, refused, canary, let_out, let_out)
    await ended.attest()
    build = ended.statements()["https://slsa.dev/provenance/v1"]["predicate"]
    assert "byproducts" not in build["runDetails"]
    internal = build["buildDefinition"]["internalParameters"]
    assert internal["caches"] == []
    assert internal["egress"] == {"allowed": {"files.example:443": 2}, "refused": {"no_rule": 3}, "probes_refused": 1}
    await writer.close()
    (note, *_) = await ended.attest()
    run = json.loads(base64.b64decode(json.loads(note.envelope)["payload"]))["predicate"]["runDetails"]
    assert run["byproducts"][0]["digest"] == {
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    }


async def test_a_summary_goes_among_the_artifacts_attestations_also_of_a_job_that_failed(ended):
    envelope = sign_envelope(b'{"predicateType": "x"}', IN_TOTO, ended.key)
    await ended.run(events.SummarySigned(envelope, "sha256:d", APP, "prod", "d1"), outcome=FAILURE)
    assert list(await ended.attest()) == []
    assert [one.text for one in ended.of()] == [envelope]


async def test_of_a_job_that_neither_built_it_nor_is_listed_the_word_is_hearsay(ended):
    other = sign_envelope(b"of another job", IN_TOTO, ended.key)
    ended.kept.of_record.put([APP], other)
    await ended.run(BUILT, await ended.report())
    await ended.attest()
    assert {one.standing for one in ended.of()} == {Standing.HEARSAY}


async def test_of_a_listed_job_it_is_not(ended):
    ended.reporters = ((VULNERABILITIES, "default"),)
    await ended.run(await ended.report(digest=BASE, kind=VULNERABILITIES))
    await ended.attest()
    assert [one.standing for one in ended.of(BASE)] == [Standing.OWN]


async def test_who_is_listed_for_scans_has_no_room_among_signatures_and_origins(ended):
    """Else a scanner's jobs could push out the builder's own word by reporting its artifact again and again."""
    ended.kept.of_record.put([APP], sign_envelope(b"of another job", IN_TOTO, ended.key))
    ended.reporters = ((VULNERABILITIES, "default"),)
    await ended.run(BUILT, await ended.report(), await ended.report(kind=VULNERABILITIES))
    await ended.attest()
    assert sorted(one.standing for one in ended.of()) == [Standing.HEARSAY] * 3 + [Standing.OWN]


async def test_a_builders_scan_that_nobody_asked_for_is_hearsay(ended):
    await ended.run(BUILT, await ended.report(kind=VULNERABILITIES))
    await ended.attest()
    assert sorted(one.standing for one in ended.of()) == [Standing.HEARSAY, Standing.OWN, Standing.OWN]


async def test_a_job_that_said_nothing_is_not_read_again(ended, monkeypatch):
    attester = ended.attester()
    await ended.run()
    record = fold(await ended.journal.facts_of(OFFER.key.id))
    monkeypatch.setattr(ended.journal, "facts_of", None)
    assert await attester.attest(record) == ()


async def test_documents_go_with_the_end_of_their_job(ended):
    attester = ended.attester()
    fact = await ended.report()
    await ended.run(BUILT, fact)
    await ended.attest(attester)
    assert ended.kept.reported.read(OFFER.key.id, fact.predicate_digest)
    await ended.journal.append([(OFFER.key.id, events.RunnerDeleted(NAME)), (OFFER.key.id, events.JobFinished())])
    assert ended.kept.reported.read(OFFER.key.id, fact.predicate_digest) is None
