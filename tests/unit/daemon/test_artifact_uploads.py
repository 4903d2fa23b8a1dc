"""Bundles that anybody uploads: none crowds out, or hides behind older ones, what a configured signer said."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from orchestrator.daemon.promotion.artifacts import ArtifactDesk
from orchestrator.daemon.records.attest import EvidenceKeeping
from orchestrator.errors import GiveUpError
from orchestrator.evidence.attestation_store import AttestationStore, Standing
from orchestrator.evidence.attestations.making import SIGNATURE_TYPE, statement
from orchestrator.evidence.attestations.signers import Claim, Signer, Signers
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, statement_bytes
from orchestrator.evidence.reported import VULNERABILITIES
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.store import EvidenceStore
from orchestrator.model.job import Caller
from orchestrator.testing.clock import SteppedClock

APP = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
CALLER = Caller("https://i.example", "s")
NOW = 1_800_000_600_000_000_000
MANY = 40


class Notes:
    async def evidence_uploaded(self, *_told) -> None:
        """The audit log is not what is tested here."""


@pytest.fixture
def key():
    return generate_evidence_key()


@pytest.fixture
def desk(tmp_path, key) -> ArtifactDesk:
    signers = Signers([Signer("scan-service", (key.public,), frozenset(Claim), scanners=frozenset({"trivy"}))])
    kept = EvidenceKeeping(
        EvidenceStore(tmp_path), AttestationStore(tmp_path / "said"), ReportedDocuments(tmp_path / "reported")
    )
    return ArtifactDesk(kept, SimpleNamespace(current=lambda: signers), Notes(), SteppedClock(NOW))


def scan(key, finished: str, *severities: str, digest: str = APP) -> str:
    found = [{"VulnerabilityID": f"CVE-{n}", "Severity": severity} for n, severity in enumerate(severities)]
    result = {"SchemaVersion": 2, "ArtifactName": "app", "Results": [{"Vulnerabilities": found}]}
    predicate = {"scanner": {"uri": "trivy", "result": result}, "metadata": {"scanFinishedOn": finished}}
    told = statement([("app", digest)], VULNERABILITIES, predicate)
    return sign_envelope(statement_bytes(told), IN_TOTO, key)


def padded(envelope: str, number: int) -> str:
    """The same envelope with one more signature, of nobody: anybody can make as many as they like."""
    told = json.loads(envelope)
    told["signatures"].append({"sig": base64.b64encode(b"%d" % number).decode()})
    return json.dumps(told)


async def add(desk: ArtifactDesk, text: str) -> str:
    """The standing that an upload gets; empty where it is refused."""
    try:
        kept, _new = await desk.upload(APP, text, CALLER)
    except GiveUpError as error:
        return "" if error.reason == "evidence_full" else error.reason
    return str(kept["standing"])


async def facts(desk: ArtifactDesk):
    found = await desk.show(APP)
    return found["facts"]


async def test_an_old_scan_in_many_wrappings_does_not_hide_the_newest(desk, key):
    good, bad = scan(key, "2027-01-15T07:00:00Z"), scan(key, "2027-01-15T08:00:00Z", "CRITICAL")
    assert await add(desk, bad) == Standing.VOUCHED
    for number in range(MANY):
        await add(desk, padded(good, number))
    assert [one["counts"]["critical"] for one in (await facts(desk))["scans"]] == [1]


async def test_nor_do_many_old_scans(desk, key):
    assert await add(desk, scan(key, "2027-01-15T08:00:00Z", "CRITICAL")) == Standing.VOUCHED
    for number in range(MANY):
        await add(desk, scan(key, f"2027-01-15T07:00:{number:02}Z"))
    assert [one["counts"]["critical"] for one in (await facts(desk))["scans"]] == [1]


async def test_a_scan_of_each_day_takes_the_place_of_the_oldest(desk, key):
    for day in range(20):
        assert await add(desk, scan(key, f"2026-12-{day + 1:02}T08:00:00Z", "HIGH")) == Standing.VOUCHED
    assert await add(desk, scan(key, "2027-01-15T08:00:00Z")) == Standing.VOUCHED
    assert [one["finished_at"] for one in (await facts(desk))["scans"]] == ["2027-01-15T08:00:00Z"]


async def test_what_signers_said_of_other_artifacts_crowds_out_nothing(desk, key):
    signature = sign_envelope(statement_bytes(statement([("app", APP)], SIGNATURE_TYPE, {})), IN_TOTO, key)
    assert await add(desk, signature) == Standing.VOUCHED
    for number in range(MANY):
        about = [("other", OTHER), (str(number), "sha256:" + f"{number:064x}")]
        foreign = sign_envelope(statement_bytes(statement(about, SIGNATURE_TYPE, {})), IN_TOTO, key)
        assert await add(desk, foreign) in (Standing.LOOSE, "")
    assert (await facts(desk))["signed"]
