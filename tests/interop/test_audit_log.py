"""Go's transparency log, which nobody here wrote, accepts what our audit log proves, and nothing that was changed."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from interop import AUDIT_CHECK, needs

from orchestrator.evidence.audit.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey, split_notes
from orchestrator.evidence.audit.proof import prove_growth, prove_record
from orchestrator.evidence.audit.record import AuditEvent, prepare
from orchestrator.evidence.audit.store import AuditStore, Pace

pytestmark = [needs("go")]

RECORDS = 57


class Log:
    """A log of the real writer's, and Go's judgement on its proofs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "audit"
        self.proof, self.old = folder / "proof", folder / "old"
        self.key = NoteKey.generate("ci.example/audit")
        pace = Pace(checkpoint_records=7, segment_bytes=8000)
        store = AuditStore.open(self.folder, self.key, time.monotonic_ns, pace)
        for number in range(1, RECORDS + 1):
            event = AuditEvent(
                kind="token.issued", at_ns=number, actor="policy", workflow="", commit="", environment="prod",
                outcome="allow", data={"n": number}, journal_seq=number,
            )  # fmt: skip
            assert store.commit([prepare(event)])
            store.checkpoint_if_due()
        store.close()
        notes = split_notes((self.folder / "checkpoints").read_bytes())
        self.checkpoints = [read_checkpoint(note, self.key.verifier) for note in notes]

    def judged(self, text: str, old: Checkpoint | None = None, key: NoteKey | None = None) -> str:
        self.proof.write_text(text)
        arguments = [str(AUDIT_CHECK), (key or self.key).verifier.vkey, str(self.proof)]
        if old is not None:
            self.old.write_text(old.note)
            arguments.append(str(self.old))
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)
        assert done.stderr == ""
        assert done.returncode == int(done.stdout.startswith("refused:"))
        return done.stdout.strip()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


def test_every_record_is_proven_to_it(log):
    for seq in range(1, RECORDS + 1):
        proof = prove_record(log.folder, seq, log.checkpoints[-1])
        assert log.judged(proof.text) == f"record {seq} of {RECORDS}"


def test_growth_is_proven_to_it(log):
    olds = [one for one in log.checkpoints if one.size]
    assert len(olds) > 6
    for old in olds:
        proof = prove_growth(log.folder, old, log.checkpoints[-1])
        assert log.judged(proof.text, old) == f"grown from {old.size} to {RECORDS}"


def test_it_refuses_what_ours_refuses(log):
    newest = log.checkpoints[-1]
    text = prove_record(log.folder, 23, newest).text
    other = prove_record(log.folder, 24, newest).text
    first, second = text.split("\n")[1], other.split("\n")[1]
    assert log.judged(text).startswith("record 23")
    for false in (
        text.replace("index 22\n", "index 23\n"),
        text.replace(first, second),
        text.replace(newest.note, log.checkpoints[-2].note),
        text.replace(f"\n{RECORDS}\n", f"\n{RECORDS + 1}\n"),
    ):
        assert false != text
        assert log.judged(false).startswith("refused:")
    assert log.judged(text, key=NoteKey.generate(log.key.name)).startswith("refused:")
    old = next(one for one in log.checkpoints if one.size == 14)
    growth = prove_growth(log.folder, old, newest).text
    rewritten = sign_checkpoint(log.key, 14, b"r" * 32)
    assert log.judged(growth, rewritten).startswith("refused:")
