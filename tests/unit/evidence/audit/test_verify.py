"""What was done to a log is found, and the first bad record named."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.evidence.audit import verify as verify_module
from orchestrator.evidence.audit.checkpoint import sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import prepare
from orchestrator.evidence.audit.report import Fault
from orchestrator.evidence.audit.segments import HISTORY, NEWEST
from orchestrator.evidence.audit.store import AuditStore, Pace
from orchestrator.evidence.audit.tree import Tree, leaf_hash
from orchestrator.evidence.audit.verify import verify

from .conftest import Clock, event, lines, put


def chained(events, seq=1, prev="0" * 64):
    """Lines of a history of its own, each hash made anew."""
    made = []
    for one in events:
        line, prev = prepare(one).line(seq, prev)
        made.append(line + b"\n")
        seq += 1
    return made


def root_of(these):
    tree = Tree()
    for line in these:
        tree.add(leaf_hash(line[:-1]))
    return tree.root()


@pytest.mark.parametrize("segment", [64 << 20, 4000])
def test_an_untouched_log_holds(written, key, segment, tmp_path):
    folder = written(48, segment=segment)
    assert (len(list(folder.glob("*.jsonl"))) > 1) is (segment < 5000)
    kept = tmp_path / "kept"
    shutil.copy(folder / NEWEST, kept)
    report = verify(folder, key.verifier, [kept])
    assert report.ok, report
    assert (report.records, report.vouched, report.external, report.torn_bytes) == (48, 48, 1, 0)
    assert report.root == root_of(lines(folder)).hex()
    assert json.loads(json.dumps(report.as_json()))["ok"] is True


def test_an_empty_log_holds(written, key):
    report = verify(written(0), key.verifier)
    assert report.ok
    assert report.records == 0


@pytest.mark.parametrize("record", [1, 2, 17, 24, 30])
def test_a_flipped_bit_names_its_record(written, key, record):
    """In every member of the record, the newline included."""
    folder = written(30)
    good = lines(folder)
    text = good[record - 1]
    places = [text.index(word) + 3 for word in (b'"hash":', b'"prev":', b'"seq":', b'"data":', b'"kind":', b'"at_ns":')]
    for place in [0, *places, text.index(b'"hash":') + 12, text.index(b'"prev":') + 12, len(text) - 2, len(text) - 1]:
        bad = bytearray(text)
        bad[place] ^= 0x04
        put(folder, [*good[: record - 1], bytes(bad), *good[record:]])
        finding = verify(folder, key.verifier).finding
        if record == 30 and place == len(text) - 1:
            assert finding is not None
            assert (finding.fault, finding.first) == (Fault.CUT_OFF, 30)
            continue
        assert finding is not None, place
        assert (finding.fault, finding.first, finding.last) == (Fault.DAMAGED, record, record), (place, finding)
        assert f"line {record}" in finding.where


@pytest.mark.parametrize(("drop", "first", "last"), [([1], 1, 1), ([7], 7, 7), ([7, 8, 9], 7, 9), ([29], 29, 29)])
def test_dropped_records_are_named(written, key, drop, first, last):
    folder = written(30)
    put(folder, [line for number, line in enumerate(lines(folder), 1) if number not in drop])
    report = verify(folder, key.verifier)
    assert report.finding is not None
    assert (report.finding.fault, report.finding.first, report.finding.last) == (Fault.MISSING, first, last)
    assert report.records == first - 1


@pytest.mark.parametrize("left", [29, 25, 20, 1, 0])
def test_a_truncated_log_is_told_from_the_first_missing_record(written, key, left):
    folder = written(30)
    put(folder, lines(folder)[:left])
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.CUT_OFF, left + 1, 30)


def test_truncation_with_the_folders_own_checkpoints_is_found_by_one_from_elsewhere(written, key, tmp_path):
    folder, short = written(30), written(20, name="short")
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(folder / NEWEST, elsewhere)
    for name in (NEWEST, HISTORY):
        shutil.copy(short / name, folder / name)
    put(folder, lines(folder)[:20])
    assert verify(folder, key.verifier).ok
    finding = verify(folder, key.verifier, [elsewhere]).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.CUT_OFF, 21, 30)
    assert "elsewhere" in finding.where


@pytest.mark.parametrize(("one", "other"), [(5, 6), (5, 9), (1, 2), (29, 30)])
def test_reordered_records_are_named(written, key, one, other):
    folder = written(30)
    these = lines(folder)
    these[one - 1], these[other - 1] = these[other - 1], these[one - 1]
    put(folder, these)
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first) == (Fault.OUT_OF_ORDER, one)


def test_inserted_lines_are_named(written, key):
    folder = written(30)
    good = lines(folder)
    prev = json.loads(good[9])["hash"]
    [well_chained] = chained([event(99)], 11, prev)
    [astray] = chained([event(99)], 11, "f" * 64)
    for inserted, word in (
        (b"nonsense\n", "no record"),
        (b"\n", "no record"),
        (good[2], "again"),
        (astray, "follows none"),
        (well_chained, "two records 11"),
    ):
        put(folder, [*good[:10], inserted, *good[10:]])
        finding = verify(folder, key.verifier).finding
        assert finding is not None
        assert (finding.fault, finding.first, finding.last) == (Fault.INSERTED, 11, 11), finding
        assert word in finding.why


def test_a_replaced_record_is_between_two(written, key):
    """Its own hash was made anew: only the next one contradicts, and the checkpoints say which may be false."""
    folder = written(30)
    good = lines(folder)
    for record in (5, 11, 15):
        prev = json.loads(good[record - 2])["hash"]
        put(folder, [*good[: record - 1], *chained([event(99)], record, prev), *good[record:]])
        finding = verify(folder, key.verifier).finding
        assert finding is not None
        assert (finding.fault, finding.first, finding.last) == (Fault.REPLACED, record, record + 1)


def test_a_replaced_record_behind_a_checkpoint_is_named_alone(written, key):
    """Ten records are vouched for, so it is the eleventh, whose `prev` is false."""
    folder = written(30)
    good = lines(folder)
    put(folder, [*good[:10], *chained([event(99)], 11, "f" * 64), *good[11:]])
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.REPLACED, 11, 11)


@pytest.mark.parametrize(("change", "first", "last"), [(3, 1, 10), (11, 11, 20), (25, 21, 30), (30, 21, 30)])
def test_a_rewritten_history_is_between_two_checkpoints(written, key, change, first, last):
    """All hashes fit: only what was signed before contradicts."""
    folder = written(30)
    numbers = range(1, 31)
    put(folder, chained([event(number, actor="mallory" if number == change else "policy") for number in numbers]))
    report = verify(folder, key.verifier)
    assert report.finding is not None
    assert (report.finding.fault, report.finding.first, report.finding.last) == (Fault.REWRITTEN, first, last)
    assert report.vouched == first - 1


def test_who_has_the_key_can_rewrite_all_but_what_was_kept_elsewhere(written, key, tmp_path):
    folder = written(30)
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(folder / HISTORY, elsewhere)
    false = chained([event(number, actor="mallory") for number in range(1, 31)])
    put(folder, false)
    signed = sign_checkpoint(key, 30, root_of(false)).note
    (folder / NEWEST).write_text(signed)
    (folder / HISTORY).write_text(signed + "\n")
    assert verify(folder, key.verifier).ok
    finding = verify(folder, key.verifier, [elsewhere]).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.REWRITTEN, 1, 10)


def test_a_forged_checkpoint_is_told_and_counts_for_nothing(written, key, tmp_path):
    folder = written(30)
    forged = tmp_path / "forged"
    forged.write_text((folder / NEWEST).read_text().replace("\n30\n", "\n31\n"))
    foreign = tmp_path / "foreign"
    foreign.write_text(sign_checkpoint(NoteKey.generate(key.name), 99, b"r" * 32).note)
    broken = tmp_path / "broken"
    broken.write_text("nothing")
    empty = tmp_path / "empty"
    empty.write_text("")
    report = verify(folder, key.verifier, [forged, foreign, broken, empty])
    assert not report.ok
    assert report.finding is None
    assert report.records == 30
    assert report.external == 0
    assert [one.where.split(",")[0] for one in report.refused] == [str(one) for one in (forged, foreign, broken, empty)]


@pytest.mark.parametrize("name", [NEWEST, HISTORY, "00000000000000000001.start"])
def test_the_folders_own_checkpoints_must_be_there_and_hold(written, key, name):
    folder = written(30)
    good = (folder / name).read_text()
    (folder / name).write_text(good.replace("\n\n— ci", "x\n\n— ci", 1))
    assert [one.where.split(",")[0] for one in verify(folder, key.verifier).refused] == [name]
    (folder / name).unlink()
    [refused] = verify(folder, key.verifier).refused
    assert refused.where == name
    assert "missing" in refused.why


def test_traces_of_crashes_are_not_taken_for_tampering(written, key, tmp_path):
    folder = written(30)
    elsewhere = tmp_path / "elsewhere"
    history = (folder / HISTORY).read_text()
    elsewhere.write_text(history[:20] + "\n\n" + history)
    (folder / HISTORY).write_text(history + history[:50])
    with next(folder.glob("*.jsonl")).open("ab") as file:
        file.write(lines(folder)[0][:100])
    report = verify(folder, key.verifier, [elsewhere])
    assert report.ok, report
    assert report.torn_bytes == 100
    assert len(report.fragments) == 1


def test_missing_segments_and_torn_ones_in_the_middle(written, key):
    folder = written(48, segment=4000)
    first, second, *_ = sorted(folder.glob("*.jsonl"))
    start = int(second.name[:20])
    data = second.read_bytes()
    second.write_bytes(data[:-1])
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    held = start - 1 + len(data.splitlines())
    assert (finding.fault, finding.first) == (Fault.DAMAGED, held)
    second.unlink()
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.MISSING, start, held)
    second.write_bytes(data)
    first.unlink()
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first, finding.last) == (Fault.MISSING, 1, start - 1)


def test_a_line_without_end_is_read_in_bounded_parts(written, key):
    folder = written(10)
    put(folder, [*lines(folder)[:4], b"x" * 1_000_000])
    finding = verify(folder, key.verifier).finding
    assert finding is not None
    assert (finding.fault, finding.first) == (Fault.DAMAGED, 5)
    assert "longer" in finding.why


def test_a_file_of_checkpoints_that_is_too_large_is_not_read_in_part(written, key, tmp_path, monkeypatch):
    folder = written(10)
    large = tmp_path / "large"
    large.write_text(f"{(folder / NEWEST).read_text()}\n" * 40)
    monkeypatch.setattr(verify_module, "MAX_CHECKPOINT_BYTES", 4000)
    [refused] = verify(folder, key.verifier, [large]).refused
    assert "larger than 4000 bytes" in refused.why


def test_of_a_history_that_has_grown_too_large_the_newest_checkpoints_are_checked(written, key, monkeypatch):
    """Years of checkpoints must not make a log that holds look as if it did not."""
    folder = written(60)
    history = folder / HISTORY
    size = history.stat().st_size
    notes = history.read_text().count("\u2014 ")
    for limit in range(size // 2, size // 2 + size // notes + 2):
        monkeypatch.setattr(verify_module, "MAX_CHECKPOINT_BYTES", limit)
        report = verify(folder, key.verifier)
        assert report.ok, report
        assert (report.vouched, report.checkpoints < notes) == (60, True)
    text = history.read_text()
    history.write_text(text[: text.rindex("\n60\n")] + "\n61\n" + text[text.rindex("\n60\n") + 4 :])
    assert "does not fit" in verify(folder, key.verifier).refused[0].why


edits = st.lists(
    st.tuples(st.sampled_from(["cut", "put", "swap"]), st.floats(0, 1), st.floats(0, 0.2), st.binary(max_size=20)),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """One log of 40 records and three segments, and a copy of it that tests may write to."""
    key = NoteKey.generate("ci.example/audit")
    good = tmp_path_factory.mktemp("settled") / "good"
    store = AuditStore.open(good, key, Clock(), Pace(checkpoint_records=10, segment_bytes=8_000))
    for number in range(1, 41):
        assert store.commit([prepare(event(number))])
        store.checkpoint_if_due()
    store.close()
    assert len(list(good.glob("*.jsonl"))) == 3
    shutil.copytree(good, good.with_name("bad"))
    return key, good, good.with_name("bad")


@given(edits)
def test_no_edit_of_what_was_signed_for_goes_unnoticed(settled, given_edits):
    key, good, bad = settled
    segments = sorted(good.glob("*.jsonl"))
    text = b"".join(path.read_bytes() for path in segments)
    changed = text
    for kind, where, length, put_in in given_edits:
        start = int(where * len(changed))
        end = min(len(changed), start + int(length * len(changed)) + 1)
        if kind == "cut":
            changed = changed[:start] + changed[end:]
        elif kind == "put":
            changed = changed[:start] + put_in + changed[start:]
        else:
            moved = changed[start:end]
            rest = changed[:start] + changed[end:]
            changed = moved + rest
    for path in bad.glob("*.jsonl"):
        path.unlink()
    at = 0
    for path in segments:
        size = path.stat().st_size if path is not segments[-1] else len(changed)
        (bad / path.name).write_bytes(changed[at : at + size])
        at += size
    report = verify(bad, key.verifier)
    # What follows the last newline is no record, so long as all before it is whole.
    only_torn = changed.startswith(text) and b"\n" not in changed[len(text) :]
    assert report.ok is only_torn
    same = [one == other for one, other in zip(changed.split(b"\n"), text.split(b"\n"), strict=False)]
    if report.finding is not None:
        first_changed = same.index(False) + 1 if False in same else len(same)
        # No record is taken for good that is not: the first bad one is named, or that one and the one before it.
        assert report.records <= first_changed
        assert report.finding.first <= first_changed


def test_the_key_decides_whose_log_it_is(written):
    folder = written(10)
    report = verify(folder, NoteKey.generate("ci.example/audit").verifier)
    assert not report.ok
    assert report.vouched == 0
    assert len(report.refused) >= 3
