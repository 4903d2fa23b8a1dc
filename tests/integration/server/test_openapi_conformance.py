"""Schemathesis, in a process of its own, plays the served OpenAPI document against the running server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator

import pytest

from orchestrator.daemon.promotion.approval_desk import ApprovalDesk
from orchestrator.daemon.promotion.artifacts import ArtifactDesk
from orchestrator.daemon.promotion.signers import SignersHolder
from orchestrator.daemon.records.attest import EvidenceKeeping
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.evidence.approvals.book import Book
from orchestrator.evidence.approvals.judging import Limits as ApprovalLimits
from orchestrator.evidence.approvals.people import People
from orchestrator.evidence.attestation_store import AttestationStore, Standing
from orchestrator.evidence.attestations.making import signature_statement
from orchestrator.evidence.envelope import sign_envelope
from orchestrator.evidence.provenance import IN_TOTO, Builder, statement_bytes
from orchestrator.evidence.reported_store import ReportedDocuments
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.evidence.store import EvidenceStore
from orchestrator.model.decision import Verdict
from orchestrator.model.job import Caller
from orchestrator.server.deps import Limits
from orchestrator.server.notifications.port import NotificationDesk
from orchestrator.settings import Settings
from orchestrator.settings.approvals import ApprovalsSettings
from orchestrator.testing.approvals import START, approval, id_of, public_pem, signed
from orchestrator.testing.clock import SteppedClock
from tests.integration.server.test_notifications import notification_desk

HOOKS = r"""
import itertools, re, schemathesis
from orchestrator.server.schemas import KEY_PATTERN

numbers = itertools.count()

@schemathesis.hook
def before_call(context, case, kwargs):
    # A key that comes again with another body is refused, as it must be; so each valid key is made a new one.
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and len(key) < 200 and re.fullmatch(KEY_PATTERN, key):
        case.headers["Idempotency-Key"] = f'{key[:-1]}-{next(numbers)}"' if key[0] == '"' else f"{key}-{next(numbers)}"
"""

CONFIG = """
[checks.negative_data_rejection]
# The default list and 413, which is what a body over the size limit gets.
expected-statuses = [400, 401, 403, 404, 405, 406, 408, 409, 413, 415, 422, 428, 429]

[[operations]]
# Nobody here has a secret or the name of a source, so no delivery is ever taken in.
include-name = "POST /webhooks/github/{source}"
warnings = false

[[operations]]
# Never the key that signed the token of these very requests.
include-name = "POST /v1/keys/{kid}/revoke"
parameters = { "path.kid" = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" }
warnings = false

[[operations]]
# The keys are those of all tests here.
include-name = "POST /v1/keys/rotate"
parameters = { "query.issuer" = "nobody" }
warnings = false

[[operations]]
include-path-regex = "issuers/"
parameters = { "path.issuer" = "prod" }


[[operations]]
# Nobody keeps these here; each has tests of its own.
include-path-regex = "^/v1/(inventory|scorecard|secrets|policy/check|drain|reload)|/summary$"
warnings = false

[[operations]]
# A stream without end; it has tests of its own.
include-name = "GET /v1/live"
enabled = false

[[operations]]
# No page is served here, and so nobody signs in by it.
include-path-regex = "^/$|^/page/|^/signin/|^/v1/session"
warnings = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx"]

[[operations]]
include-path-regex = "^/v1/notifications/"
parameters = { "path.name" = "ops" }

[[operations]]
# Hardly anything that fits the schema is a signed envelope.
include-name = "POST /v1/artifacts/{digest}/attestations"
parameters = { "path.digest" = "%(digest)s" }
warnings = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx"]

[[operations]]
# The same of what people sign.
include-name = "POST /v1/approvals"
warnings = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "4xx"]

[[operations]]
include-path-regex = "^/v1/approvals/"
parameters = { "path.approval_id" = "%(approval)s" }

[[operations]]
include-path-regex = "^/v1/artifacts/"
parameters = { "path.digest" = "%(digest)s", "path.attestation" = "%(attestation)s" }
"""
ARTIFACT = "sha256:" + "a" * 64


@pytest.mark.slow
class TestConformance:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(heartbeat_seconds=0.2, body_timeout_seconds=2)

    @pytest.fixture
    def max_jobs(self) -> int:
        return 100_000

    @pytest.fixture
    def verdict(self) -> Verdict:
        return Verdict.DENY  # so that jobs end by themselves, and with them the streams that follow one

    @pytest.fixture
    def kept(self, tmp_path) -> EvidenceKeeping:
        folder = tmp_path / "evidence"
        return EvidenceKeeping(EvidenceStore(folder), AttestationStore(folder / "a"), ReportedDocuments(folder / "r"))

    @pytest.fixture
    def known(self, kept) -> str:
        """An attestation of the artifact."""
        statement = statement_bytes(signature_statement([("app", ARTIFACT)]))
        envelope = sign_envelope(statement, IN_TOTO, generate_evidence_key())
        return kept.attestations.add((ARTIFACT,), envelope, Standing.OWN)

    @pytest.fixture
    def artifacts(self, kept, tmp_path) -> ArtifactDesk:
        key, settings = generate_evidence_key(), Settings(state_dir=tmp_path)
        signers = SignersHolder(settings, {}, Builder("https://ci.example", "0"), key)
        return ArtifactDesk(kept, signers, AuditNotes(None), SteppedClock())

    @pytest.fixture
    async def notifications(self, tmp_path) -> AsyncIterator[NotificationDesk]:
        """One endpoint, at which nobody listens."""
        async with notification_desk(tmp_path, "http://127.0.0.1:9/") as desk:
            yield desk

    @pytest.fixture
    async def approvals(self, tmp_path) -> AsyncIterator[ApprovalDesk]:
        """One approval lies there."""
        people = tmp_path / "approvers.yaml"
        rights = [{"kinds": ["security"], "environments": ["prod"]}]
        alice = {"keys": [public_pem("alice")], "may": rights}
        people.write_text(json.dumps({"version": 1, "people": {"alice": alice}}))
        given, clock, key = ApprovalsSettings(people=people), SteppedClock(START), generate_evidence_key()
        book = await Book.open(tmp_path / "approvals.db", People(), ApprovalLimits(), key.private, clock.now_ns())

        async def unknown(_digest: str) -> None:
            return None

        desk = ApprovalDesk(given, book, None, unknown, AuditNotes(None), clock)
        await desk.load("test")
        await desk.submit(signed(approval(), "alice").text(), Caller("https://ci.example", "somebody"))
        yield desk
        await desk.close()
        book.close()

    async def test_the_server_does_what_its_document_says(self, api, known, tmp_path):
        """All checks, valid and invalid data; bounded and the same in every run."""
        job_id = await api.job("known")
        (tmp_path / "api_hooks.py").write_text(HOOKS)
        told = {"digest": ARTIFACT, "attestation": known, "approval": id_of(approval())}
        (tmp_path / "schemathesis.toml").write_text(CONFIG % told)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            "from schemathesis.cli import schemathesis; schemathesis()",
            "run",
            f"{api.url}/openapi.json",
            f"--header=Authorization: {api.operator['Authorization']}",
            "--checks=all",
            "--mode=all",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=10",
            "--seed=1",
            "--generation-database=none",
            "--request-timeout=10",
            "--suppress-health-check=all",
            "--no-color",
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "api_hooks", "PYTHONPATH": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(90):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode()
        assert process.returncode == 0, text[-12_000:]
        assert "No issues found" in text, text[-3000:]
        assert api.engine.record(job_id) is not None or await api.journal.facts_of(job_id)
