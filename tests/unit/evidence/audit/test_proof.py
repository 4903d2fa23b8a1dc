"""Proofs from a real log: they show what they claim, to whom has only the key, and nothing else."""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from orchestrator.evidence.audit.checkpoint import read_checkpoint, sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey, NoteRefusedError, split_notes
from orchestrator.evidence.audit.proof import (
    GrowthProof,
    ProofRefusedError,
    RecordProof,
    is_growth,
    prove_growth,
    prove_record,
)
from orchestrator.evidence.audit.segments import HISTORY, NEWEST

from .conftest import lines, put


@pytest.fixture
def newest(key):
    return lambda folder: read_checkpoint((folder / NEWEST).read_text(), key.verifier)


@pytest.mark.parametrize("segment", [64 << 20, 4000])
def test_every_record_can_be_shown_by_itself(written, key, newest, segment):
    folder = written(37, segment=segment)
    for seq in range(1, 38):
        text = prove_record(folder, seq, newest(folder)).text
        assert text.startswith("c2sp.org/tlog-proof@v1\nextra ")
        assert f"\nindex {seq - 1}\n" in text
        assert text.endswith(f"\n\n{newest(folder).note}")
        assert not is_growth(text)
        record, checkpoint = RecordProof.parse(text).check(key.verifier)
        assert (record.seq, checkpoint.size) == (seq, 37)


def test_what_a_proof_does_not_show(written, key, newest):
    folder = written(10)
    text = prove_record(folder, 4, newest(folder)).text
    proof = RecordProof.parse(text)
    for false in (
        RecordProof(lines(folder)[4][:-1], proof.index, proof.hashes, proof.note),
        RecordProof(proof.line, 4, proof.hashes, proof.note),
        RecordProof(proof.line, proof.index, proof.hashes[:-1], proof.note),
        RecordProof(proof.line, proof.index, (b"x" * 32, *proof.hashes[1:]), proof.note),
    ):
        with pytest.raises(ProofRefusedError) as caught:
            RecordProof.parse(false.text).check(key.verifier)
        assert caught.value.reason == "proof_invalid"
    for stranger in (NoteKey.generate(key.name), NoteKey.generate("elsewhere.example")):
        with pytest.raises(NoteRefusedError):
            proof.check(stranger.verifier)


def test_a_line_that_was_signed_for_but_is_no_record(key):
    from orchestrator.evidence.audit.tree import leaf_hash

    note = sign_checkpoint(key, 1, leaf_hash(b"nonsense")).note
    with pytest.raises(ProofRefusedError, match="no record"):
        RecordProof(b"nonsense", 0, (), note).check(key.verifier)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.replace("@v1", "@v2"),
        lambda text: text.replace("extra ", "more "),
        lambda text: text.replace("index 3", "index 03"),
        lambda text: text.replace("index 3", "index -3"),
        lambda text: text.replace("index 3\n", "index 3\n!!!\n"),
        lambda text: text.replace("index 3\n", "index 3\n" + base64.b64encode(b"x" * 31).decode() + "\n"),
        lambda text: text.replace("index 3\n", "index 3\n" + (base64.b64encode(b"x" * 32).decode() + "\n") * 200),
    ],
)
def test_files_that_are_no_proofs(written, key, newest, change):
    text = change(prove_record(written(10), 4, newest(written(10, name="same"))).text)
    with pytest.raises(ProofRefusedError) as caught:
        RecordProof.parse(text)
    assert caught.value.reason == "proof_malformed"
    with pytest.raises(ProofRefusedError):
        GrowthProof.parse(text)


@pytest.mark.parametrize("seq", [0, -1, 11])
def test_records_that_no_checkpoint_is_over(written, newest, seq):
    folder = written(10)
    with pytest.raises(ProofRefusedError) as caught:
        prove_record(folder, seq, newest(folder))
    assert caught.value.reason == "proof_impossible"
    assert caught.value.fix


def test_a_log_that_was_changed_gives_no_proof(written, newest):
    folder = written(20)
    checkpoint = newest(folder)
    good = lines(folder)
    for bad in ([good[0].replace(b"allow", b"denie"), *good[1:]], good[:15], []):
        put(folder, bad)
        for seq in (1, 2, 20):
            with pytest.raises(ProofRefusedError, match="does not hold"):
                prove_record(folder, seq, checkpoint)


def test_growth_since_any_checkpoint_is_shown(written, key, newest):
    folder = written(37, every=3)
    history = [read_checkpoint(note, key.verifier) for note in split_notes((folder / HISTORY).read_bytes())]
    assert len(history) > 5
    new = newest(folder)
    for old in history:
        text = prove_growth(folder, old, new).text
        assert is_growth(text)
        assert GrowthProof.parse(text).check(old, key.verifier) == new
        if 0 < old.size < 37:
            false = sign_checkpoint(key, old.size, b"f" * 32)
            with pytest.raises(ProofRefusedError, match="does not continue"):
                GrowthProof.parse(text).check(false, key.verifier)
            with pytest.raises(ProofRefusedError, match="does not hold"):
                prove_growth(folder, false, new)
            with pytest.raises(ProofRefusedError, match="begins at"):
                GrowthProof.parse(text).check(history[0], key.verifier)


def test_a_log_that_became_shorter_has_not_grown(written, key, newest):
    long, short = written(20), written(10, name="short")
    with pytest.raises(ProofRefusedError) as caught:
        prove_growth(short, newest(long), newest(short))
    assert caught.value.reason == "proof_impossible"


def test_a_proof_tells_nothing_of_other_records(written, newest, tmp_path):
    folder = written(10)
    text = prove_record(folder, 4, newest(folder)).text
    shown = base64.b64decode(text.split("\n")[1].removeprefix("extra "))
    assert json.loads(shown)["seq"] == 4
    for line in lines(folder):
        own = json.loads(line)
        assert own["seq"] == 4 or own["data"]["jti"] not in text
    shutil.rmtree(folder)
