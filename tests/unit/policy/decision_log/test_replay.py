"""Recorded decisions under another bundle: what would change, for whom, and never a word too much."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policy.decision_log import tally as tallies
from orchestrator.policy.decision_log import writer
from orchestrator.policy.decision_log.compare import Change, Difference
from orchestrator.policy.decision_log.entry import Entry, Place, line_of, read_entry
from orchestrator.policy.decision_log.reading import Window
from orchestrator.policy.decision_log.replay import Plan, replay
from orchestrator.policy.decision_log.segments import piece_of, pieces_of, segments_of
from orchestrator.policy.decision_log.tally import Tally
from orchestrator.policy.decision_log.writer import Bounds

from .conftest import DAY, POLICY, SECOND, START, Deciding, rules

EVER = Window(0, 1 << 62)
SMALL_FILES = Bounds(1 << 30, 400 * DAY, segment_bytes=1)


@pytest.fixture
def history(deciding, keep, folder: Path, monkeypatch) -> Path:
    """Thirty decisions in many files: shops go to staging and prod, strangers are refused."""
    monkeypatch.setattr(writer, "_PIECE_BYTES", 3000)
    for number in range(30):
        repository = "other/x" if number % 10 == 9 else f"acme/shop-{number % 3}"
        deciding.decide(
            f"j{number}", repository, ("", "staging", "prod")[number % 3], "odd" if number == 4 else "default"
        )
    keep(deciding.heard, SMALL_FILES)
    assert len(segments_of(folder)) > 3
    return folder


def test_the_bundle_that_decided_decides_alike(history):
    tally = replay(history, Plan(EVER, rules()))
    assert (tally.replayed, tally.changed, tally.problems()) == (30, 0, [])


def test_what_a_stricter_bundle_would_refuse_and_for_whom(history):
    told: list[tuple[int, int, int]] = []
    tally = replay(history, Plan(EVER, rules(closed=("prod",))), progress=lambda *all_: told.append(all_))
    report = tally.as_json()
    # Ten go to prod; one of them is a stranger's, who is refused anyway and now for two reasons.
    assert report["decisions"] == {"replayed": 30, "unchanged": 20, "changed": 10, "without_input": 0}
    assert report["changes"] | {"newly_denied": 0, "other_reasons": 0} == dict.fromkeys(Change, 0)
    assert (report["changes"]["newly_denied"], report["changes"]["other_reasons"]) == (9, 1)
    assert report["jobs_changed"] == 10
    [rule] = report["by"]["rule"]
    assert (rule["value"], rule["newly_denied"], rule["other_reasons"]) == ("no_prod", 9, 1)
    assert rule["jobs"] == ["dispatch.j2.1", "dispatch.j5.1", "dispatch.j8.1", "dispatch.j11.1", "dispatch.j14.1"]
    assert [group["value"] for group in report["by"]["environment"]] == ["prod"]
    assert {group["value"]: group["changed"] for group in report["by"]["repository"]} == {
        "acme/shop-2": 9,
        "other/x": 1,
    }
    assert [(one["change"], one["job_id"]) for one in report["changed"]][-1] == ("other_reasons", "dispatch.j29.1")
    assert told[-1] == (len(segments_of(history)), len(segments_of(history)), 30)
    assert json.loads(json.dumps(report)) == report


def test_what_a_laxer_bundle_would_allow(history):
    laxer = rules(POLICY.replace('"acme/"', '""'))
    report = replay(history, Plan(EVER, laxer)).as_json()
    assert report["changes"]["newly_allowed"] == 3
    assert report["by"]["repository"][0]["value"] == "other/x"


def test_a_rule_in_watch_and_one_that_fails(history):
    unwatched = rules(POLICY.replace('input.pool.name == "odd"', "false"))
    report = replay(history, Plan(EVER, unwatched)).as_json()
    assert report["changes"]["other_observations"] == 1
    assert report["by"]["rule"] == [
        {"value": "odd_pool", "changed": 1, "other_observations": 1, "jobs": ["dispatch.j4.1"]}
    ]
    broken = rules(POLICY.replace('"allow": count(reasons) == 0', '"allow": time.parse_rfc3339_ns(input.job.id) > 0'))
    report = replay(history, Plan(EVER, broken)).as_json()
    assert report["changes"]["failed"] == 30
    assert [group["value"] for group in report["by"]["rule"]] == ["policy_error", "not_ours"]


def test_against_another_bundle_instead_of_the_record(history):
    closed = rules(closed=("prod",))
    assert replay(history, Plan(EVER, closed, closed)).changed == 0
    report = replay(history, Plan(EVER, rules(), closed)).as_json()
    assert report["changes"]["newly_allowed"] == 9


def test_one_environment_and_a_time(history):
    closed = rules(closed=("prod", "staging"))
    assert replay(history, Plan(EVER, closed, environment="staging")).replayed == 10
    assert replay(history, Plan(EVER, closed, environment="")).changed == 0
    window = Window(START + 11 * SECOND, START + 21 * SECOND)
    assert replay(history, Plan(window, closed)).replayed == 10


def test_several_processes_find_the_same(history):
    plan = Plan(EVER, rules(closed=("prod",)), rules())
    assert numbers(replay(history, plan, 1)) == numbers(replay(history, plan, 2))


def test_damage_is_told_and_the_rest_replayed(history):
    second = segments_of(history)[1]
    lines = [line for piece in pieces_of(second.path.read_bytes()) for line in piece.lines]
    second.path.write_bytes(piece_of(lines[0].replace(b'"verdict":"allow"', b'"verdict":"deny"') + b"\n"))
    tally = replay(history, Plan(EVER, rules()))
    assert (tally.replayed, tally.changed) == (30 - len(lines), 0)
    assert len(tally.problems()) == 2
    assert "does not say deny" in tally.problems()[0].what
    assert "missing" in tally.problems()[1].what


def test_versions_of_the_program_are_told(deciding, keep, folder):
    deciding.decide("a")
    deciding.decide("b")
    keep(deciding.heard[:1], version="1.0")
    keep(deciding.heard[1:], version="2.0")
    assert replay(folder, Plan(EVER, rules())).as_json()["recorded_by_versions"] == {"1.0": 1, "2.0": 1}


def test_an_empty_log(tmp_path):
    assert replay(tmp_path, Plan(EVER, rules())).as_json()["decisions"]["replayed"] == 0
    with pytest.raises(OSError, match="No such file"):
        replay(tmp_path / "none", Plan(EVER, rules()))


KINDS = (None, *Change)


@pytest.fixture(scope="module")
def line() -> Entry:
    """Some entry, of which the next test makes others."""
    deciding = Deciding()
    return read_entry(line_of(deciding.decide("j"), Place("0a1b2c3d", 1), {})[:-1])


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from(KINDS)), max_size=40), st.data())
def test_parts_add_up_however_they_are_cut(line, counted, data):
    """Whoever counts which part, and in which order they are added, the numbers are the same."""
    parts, whole = [Tally() for _ in range(3)], Tally()
    for part, job, change in counted:
        entry = msgspec.structs.replace(line, custom=msgspec.structs.replace(line.custom, job_id=f"j{job}"))
        for tally in (parts[part], whole):
            if change is None:
                tally.same(entry)
            else:
                tally.differs(entry, Difference(change, frozenset({f"c{job % 2}"}), frozenset()))
    total = Tally()
    for tally in data.draw(st.permutations(parts)):
        total.merge(tally)
    assert numbers(total) == numbers(whole)


def numbers(tally: Tally) -> dict[str, object]:
    """What a report says, but for which examples it gives."""
    report = tally.as_json()
    for groups in report["by"].values():
        for group in groups:
            group["jobs"] = len(group["jobs"])
    report["changed"] = Counter(one["change"] for one in report["changed"])
    return report


def test_what_is_told_is_bounded(history, monkeypatch):
    monkeypatch.setattr(tallies, "MAX_VALUES", 2)
    monkeypatch.setattr(tallies, "MAX_SHOWN", 3)
    monkeypatch.setattr(tallies, "MAX_JOBS", 4)
    report = replay(history, Plan(EVER, rules(closed=("", "staging", "prod"))), 1).as_json()
    assert [group["value"] for group in report["by"]["repository"]] == ["(others)", "acme/shop-0", "acme/shop-1"]
    assert report["jobs_changed"] == 4
    assert [sum(one["change"] == kind for one in report["changed"]) for kind in ("newly_denied", "other_reasons")] == [
        3,
        3,
    ]
