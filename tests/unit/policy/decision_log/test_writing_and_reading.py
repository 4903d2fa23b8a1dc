"""The log as its daemon writes it, and as anybody reads it: nothing waits, and nothing is missing without a word."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.policy.decision_log import writer
from orchestrator.policy.decision_log.entry import Entry
from orchestrator.policy.decision_log.reading import Finding, SegmentReader, Window, chosen, missing_between
from orchestrator.policy.decision_log.segments import State, piece_of, pieces_of, segments_of
from orchestrator.policy.decision_log.shadow import Candidate
from orchestrator.policy.decision_log.writer import Bounds, DecisionLog

from .conftest import DAY, KEEP_ALL, SECOND, START

EVER = Window(0, 1 << 62)


def read(folder: Path, window: Window = EVER) -> tuple[list[Entry], list[Finding]]:
    entries, findings, spans = [], [], []
    for segment in chosen(folder, window):
        reader = SegmentReader(segment)
        entries += [entry for entry in reader.entries() if window.holds(entry)]
        findings += reader.findings
        spans.append(reader.span)
    return entries, [*findings, *missing_between(spans)]


def jobs(entries: list[Entry]) -> list[str]:
    return [entry.custom.job_id.split(".")[1] for entry in entries]


def test_every_decision_is_kept_in_order(deciding, keep, folder):
    for number in range(20):
        deciding.decide(f"j{number}", "acme/shop" if number % 3 else "other/x")
    log = keep(deciding.heard)
    entries, findings = read(folder)
    assert findings == []
    assert jobs(entries) == [f"j{number}" for number in range(20)]
    assert [entry.custom.number for entry in entries] == list(range(1, 21))
    assert [entry.input_json.encode() for entry in entries] == [one.input_json for one in deciding.heard]
    assert (log.written, log.lost, log.healthy) == (20, 0, True)
    assert log.size == sum(one.path.stat().st_size for one in segments_of(folder))
    assert folder.stat().st_mode & 0o777 == 0o700


def test_files_are_bounded_and_follow_each_other(deciding, keep, folder, monkeypatch):
    monkeypatch.setattr(writer, "_PIECE_BYTES", 1)
    for number in range(12):
        deciding.decide(f"j{number}", step=DAY if number == 6 else SECOND)
    keep(deciding.heard, Bounds(1 << 30, 400 * DAY, segment_bytes=2000, segment_ns=DAY // 2))
    entries, findings = read(folder)
    assert findings == []
    assert jobs(entries) == [f"j{number}" for number in range(12)]
    assert len(segments_of(folder)) >= 4
    assert any(one.first_number == 7 for one in segments_of(folder)), "half a day is over: another file"


def test_two_daemons_in_a_row(deciding, keep, folder):
    for number in range(4):
        deciding.decide(f"j{number}")
    first, second = keep(deciding.heard[:2]), keep(deciding.heard[2:])
    assert first.run != second.run
    entries, findings = read(folder)
    assert findings == []
    assert jobs(entries) == ["j0", "j1", "j2", "j3"]


def test_only_the_time_asked_for_is_read(deciding, keep, folder):
    for number in range(4):
        deciding.decide(f"j{number}", step=DAY)
        keep(deciding.heard[-1:])
    entries, _ = read(folder, Window(START + 2 * DAY, START + 3 * DAY))
    assert jobs(entries) == ["j1"], "from the first moment on, up to and without the second"
    assert len(chosen(folder, Window(START + 3 * DAY, START + 4 * DAY))) == 3
    assert chosen(folder, Window(0, START - DAY)) == []


def test_old_files_and_the_oldest_of_too_many_go(deciding, keep, folder):
    for number in range(4):
        deciding.decide(f"j{number}")
        keep(deciding.heard[-1:])
    oldest = segments_of(folder)[0].path
    os.utime(oldest, (time.time() - 3600, time.time() - 3600))
    keep([], Bounds(1 << 30, 1800 * SECOND))
    assert jobs(read(folder)[0]) == ["j1", "j2", "j3"]
    size = sum(one.path.stat().st_size for one in segments_of(folder))
    log = keep([], Bounds(size - 1, 1800 * SECOND))
    assert jobs(read(folder)[0]) == ["j2", "j3"]
    assert log.size < size


def test_what_comes_faster_than_it_is_kept_is_lost_and_leaves_a_gap(deciding, keep, folder, monkeypatch):
    for number in range(5):
        deciding.decide(f"j{number}")
    monkeypatch.setattr(writer, "MAX_WAITING_BYTES", (len(deciding.heard[0].input_json) + 1024) * 2)

    async def run() -> DecisionLog:
        log = DecisionLog(folder, {}, KEEP_ALL, Candidate())
        for one in deciding.heard[:4]:
            log.offer(one)  # the loop does not let go, but the thread may have taken some
        while log.written + log.lost < 4:
            await asyncio.sleep(0.01)
        log.offer(deciding.heard[4])
        await log.close()
        log.offer(deciding.heard[4])
        return log

    log = asyncio.run(run())
    entries, findings = read(folder)
    assert log.lost == 6 - len(entries)
    assert log.lost >= 2
    assert jobs(entries)[-1] == "j4"
    assert len(findings) == 1
    assert "missing: the daemon could not keep them" in findings[0].what


def test_decisions_without_an_input_wait_within_the_same_bounds(deciding, folder, monkeypatch):
    """Those of a lookup that fails, while the disk hangs."""
    deciding.decide("j")
    empty = replace(deciding.heard[0], input_json=b"")
    monkeypatch.setattr(writer, "MAX_WAITING_BYTES", 10 << 10)
    go_on = threading.Event()
    monkeypatch.setattr(DecisionLog, "_keep", lambda _self, _batch: go_on.wait(10))

    async def run() -> int:
        log = DecisionLog(folder, {}, KEEP_ALL, Candidate())
        for _ in range(100):
            log.offer(empty)
        lost = log.lost
        go_on.set()
        await log.close()
        return lost

    assert asyncio.run(run()) >= 80


def test_a_killed_daemons_file_is_told_of_by_the_next(deciding, keep, folder):
    deciding.decide("a")
    deciding.decide("b")
    keep(deciding.heard[:1])
    [segment] = segments_of(folder)
    half = piece_of(bytes(range(256)))[:60]
    segment.path.write_bytes(segment.path.read_bytes() + half)
    segment.path.rename(segment.named(State.OPEN))
    entries, findings = read(folder)
    assert (jobs(entries), findings) == (["a"], []), "it may be being written"
    log = keep(deciding.heard[1:])
    assert log.cut == 1
    entries, findings = read(folder)
    assert jobs(entries) == ["a", "b"]
    assert ["killed" in finding.what or "ends within" in finding.what for finding in findings] == [True, True]
    assert not any(finding.damage for finding in findings)


def test_a_file_that_is_completed_while_it_is_read(deciding, keep, folder):
    deciding.decide("a")
    keep(deciding.heard)
    [segment] = segments_of(folder)
    listed = type(segment)(segment.named(State.OPEN), segment.first_ns, segment.run, segment.first_number, State.OPEN)
    assert jobs(list(SegmentReader(listed).entries())) == ["a"]
    segment.path.unlink()
    reader = SegmentReader(listed)
    assert list(reader.entries()) == []
    assert "deleted meanwhile" in reader.findings[0].what


def rewritten(folder: Path, change) -> list[Finding]:
    """What a reader says after the lines of the only file were changed."""
    [segment] = segments_of(folder)
    lines = [line for piece in pieces_of(segment.path.read_bytes()) for line in piece.lines]
    segment.path.write_bytes(piece_of(b"".join(line + b"\n" for line in change(lines))))
    return read(folder)[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [lines[0], lines[2]], "number 2 of run"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "moved or doubled"),
        (lambda lines: [lines[1], lines[0], lines[2]], "moved or doubled"),
        (
            lambda lines: [lines[0], lines[1].replace(b"acme/shop", b"acme/shap"), lines[2]],
            "not the one that was judged",
        ),
        (lambda lines: [lines[0], b"{}", lines[2]], "not an entry"),
    ],
)
def test_what_was_changed_is_told(deciding, keep, folder, change, told):
    for number in range(3):
        deciding.decide(f"j{number}")
    keep(deciding.heard)
    findings = rewritten(folder, change)
    assert findings
    assert told in findings[0].what
    assert all(finding.damage for finding in findings)


def test_a_file_that_was_taken_away_is_missed(deciding, keep, folder, monkeypatch):
    monkeypatch.setattr(writer, "_PIECE_BYTES", 1)
    for number in range(3):
        deciding.decide(f"j{number}")
    keep(deciding.heard, Bounds(1 << 30, 400 * DAY, segment_bytes=1))
    segments_of(folder)[1].path.unlink()
    entries, findings = read(folder)
    assert jobs(entries) == ["j0", "j2"]
    assert [finding.what.partition(" of")[0] for finding in findings] == ["number 2"]


def test_an_unusable_folder_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"policy\.decisions\.folder") as refused:
        DecisionLog(tmp_path / "file" / "decisions", {}, KEEP_ALL, Candidate())
    assert refused.value.reason == "decision_log_unusable"
    assert "policy.decisions.enabled" in refused.value.fix
