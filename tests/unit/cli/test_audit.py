"""`orchestrator audit …` on logs that the real writer wrote: what is printed, and with which code it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.evidence.audit.note import NoteKey
from orchestrator.evidence.audit.record import AuditEvent, prepare
from orchestrator.evidence.audit.store import AuditStore, Pace

KEY = NoteKey.generate("ci.example/audit")


def event(number: int, **changes: Any) -> AuditEvent:
    given: dict[str, Any] = {
        "kind": "token.issued" if number % 2 else "job.admitted",
        "at_ns": time.time_ns() - (100 - number) * 60 * 10**9,
        "actor": "policy",
        "workflow": "build \u202e",
        "commit": "c" * 40,
        "environment": "prod",
        "outcome": "allow",
        "job_id": f"dispatch.{number:04}.1",
        "trace_id": f"{number:032x}",
        "data": {"audience": "sts.example"} if number % 2 else {},
    }
    return AuditEvent(**(given | changes))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a log of 20 records."""
    folder = tmp_path / "state"
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(folder))
    store = AuditStore.open(folder / "audit", KEY, time.monotonic_ns, Pace(checkpoint_records=5))
    for number in range(1, 21):
        assert store.commit([prepare(event(number))])
        store.checkpoint_if_due()
    store.close()
    return folder


@pytest.fixture
def audit(cli: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: cli("audit", *map(str, given))


def test_verify_says_that_the_log_holds_and_what_that_is_worth(audit, state):
    done = audit("verify")
    assert done.exit_code == 0, done.output
    assert "records that hold: 20" in done.stdout
    assert "the log holds" in done.stdout
    assert "as the folder itself has it" in done.stdout
    assert "no checkpoint from elsewhere" in done.stdout


def test_verify_a_copy_with_key_and_checkpoints_from_elsewhere(audit, state, tmp_path, monkeypatch):
    monkeypatch.delenv("ORCHESTRATOR_STATE_DIR")
    printed = audit("key", state / "audit")
    assert printed.stdout == f"{KEY.verifier.vkey}\n"
    key, kept = tmp_path / "audit.vkey", tmp_path / "kept"
    key.write_text(printed.stdout)
    kept.write_bytes((state / "audit" / "checkpoints").read_bytes())
    for given in (key, KEY.verifier.vkey):
        done = audit("verify", state / "audit", "--key", given, "--checkpoint", kept, "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        assert (report["ok"], report["records"], report["external_checkpoints"]) == (True, 20, 5)


def test_the_folder_is_the_one_that_the_settings_name(audit, state, tmp_path, monkeypatch):
    (state / "audit").rename(tmp_path / "moved")
    assert audit("verify").exit_code == 2
    config = tmp_path / "orchestrator.yaml"
    config.write_text(f"audit:\n  folder: {tmp_path / 'moved'}\n")
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(config))
    assert audit("verify").exit_code == 0
    config.write_text("audit: {}\n")
    assert audit("verify").exit_code == 2


def test_verify_takes_a_folder_of_checkpoints_as_a_bucket_holds_them(audit, state, tmp_path):
    bucket = tmp_path / "bucket" / "ci.example-audit"
    bucket.mkdir(parents=True)
    notes = (state / "audit" / "checkpoints").read_text().split("\n\n")
    for number in range(0, 10, 2):
        (bucket / f"{number}.checkpoint").write_text(f"{notes[number]}\n\n{notes[number + 1]}\n")
    report = json.loads(audit("verify", "--json", "--checkpoint", tmp_path / "bucket").stdout)
    assert (report["ok"], report["external_checkpoints"]) == (True, 5)
    (bucket / "2.checkpoint").write_text("5\n")
    done = audit("verify", "--checkpoint", tmp_path / "bucket")
    assert done.exit_code == 1
    assert "2.checkpoint" in done.stdout


def test_verify_names_the_first_bad_record(audit, state, tmp_path):
    [path] = (state / "audit").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:6], lines[6].replace(b"allow", b"denie"), *lines[7:]]))
    done = audit("verify")
    assert done.exit_code == 1
    assert "FIRST BAD RECORD: record 7 (damaged)" in done.stdout
    assert "the log does NOT hold" in done.stdout
    report = json.loads(audit("verify", "--json").stdout)
    assert (report["ok"], report["finding"]["fault"], report["finding"]["first"]) == (False, "damaged", 7)
    path.write_bytes(b"".join([*lines[:6], *lines[8:]]))
    assert "one of the records 7 to 8 (missing)" in audit("verify").stdout


def test_verify_tells_of_a_forged_checkpoint(audit, state, tmp_path):
    forged = tmp_path / "forged"
    forged.write_text((state / "audit" / "checkpoint").read_text().replace("\n20\n", "\n21\n"))
    done = audit("verify", "--checkpoint", forged)
    assert done.exit_code == 1
    assert f"CHECKPOINT NOT TRUSTED: {forged}, checkpoint 1: the signature" in done.stdout
    assert "FIRST BAD" not in done.stdout


@pytest.mark.parametrize(
    ("given", "code", "word"),
    [
        (["verify", "nowhere"], 2, "nowhere is no folder"),
        (["verify", "--key", "nonsense"], 2, "not of the form"),
        (["verify", "--checkpoint", "nowhere"], 1, "nowhere cannot be read"),
        (["show", "--since", "yesterday"], 2, "is no time"),
        (["prove"], 2, "what is to be proven"),
        (["prove", "21"], 1, "does not vouch for 21"),
        (["prove", "1", "--since-checkpoint", "x"], 2, "what is to be proven"),
        (["prove", "--since-checkpoint", "nowhere"], 2, "nowhere cannot be read"),
        (["prove", "1", "--output", "/no/such/folder/x"], 1, "cannot be read or written"),
        (["check-proof", "nowhere"], 2, "nowhere cannot be read"),
    ],
)
def test_what_does_not_fit_is_told_with_a_way_out(audit, state, given, code, word):
    done = audit(*given)
    assert done.exit_code == code, done.output
    assert word in done.stderr
    assert "fix:" in done.stderr


def test_without_a_key_in_the_folder_one_is_asked_for(audit, state):
    (state / "audit" / "vkey").unlink()
    done = audit("verify")
    assert done.exit_code == 2
    assert "--key" in done.stderr


def test_show_prints_lines_that_a_terminal_can_bear(audit, state):
    done = audit("show")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 20
    assert " token.issued outcome=allow job=dispatch.0001.1 actor=policy environment=prod workflow=build ?" in lines[0]
    assert lines[0].endswith('{"audience":"sts.example"}')
    assert "\u202e" not in done.stdout


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--job", "0007"], [7]),
        (["--kind", "token.issued", "--last", "2"], [17, 19]),
        (["--kind", "job."], list(range(2, 21, 2))),
        (["--kind", "job"], []),
        (["--trace", f"{9:032x}"], [9]),
        (["--since", "84m"], [17, 18, 19, 20]),
        (["--last", "1"], [20]),
        (["--since", "2020-01-01T00:00:00Z", "--last", "0"], list(range(1, 21))),
    ],
)
def test_show_finds_records(audit, state, given, found):
    document = json.loads(audit("show", "--json", *given).stdout)
    assert [record["seq"] for record in document["records"]] == found


def test_show_says_so_when_no_record_fits(audit, state):
    done = audit("show", "--kind", "token")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no record fits\n")


def test_show_gives_records_whole(audit, state):
    [record] = json.loads(audit("show", "--json", "--last", "1").stdout)["records"]
    kept = (state / "audit" / "00000000000000000001.jsonl").read_text().splitlines()[-1]
    assert record == json.loads(kept)


def test_show_tells_of_lines_that_are_no_records(audit, state):
    [path] = (state / "audit").glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"seq":4,', b'"seq":5,') + b"half a line")
    done = audit("show", "--json")
    assert done.exit_code == 1
    assert len(json.loads(done.stdout)["records"]) == 19
    assert "00000000000000000001.jsonl, line 4" in done.stderr


def test_a_record_is_proven_to_somebody_without_the_log(audit, state, tmp_path, monkeypatch):
    proof = tmp_path / "record.tlog-proof"
    assert audit("prove", 7, "--output", proof).exit_code == 0
    assert audit("prove", 7, "--folder", state / "audit").stdout == proof.read_text()
    assert audit("check-proof", proof).exit_code == 0
    monkeypatch.setenv("ORCHESTRATOR_STATE_DIR", str(tmp_path / "elsewhere"))
    assert audit("check-proof", proof).exit_code == 2
    done = audit("check-proof", proof, "--key", KEY.verifier.vkey)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["seq"] == 7
    assert "record 7 of 20" in done.stderr
    stranger = NoteKey.generate("ci.example/audit").verifier.vkey
    assert audit("check-proof", proof, "--key", stranger).exit_code == 1
    proof.write_text(proof.read_text().replace("index 6", "index 7"))
    done = audit("check-proof", proof, "--key", KEY.verifier.vkey)
    assert done.exit_code == 1
    assert done.stdout == ""


def test_growth_is_proven(audit, state, tmp_path):
    old, proof = tmp_path / "old", tmp_path / "growth.proof"
    history = (state / "audit" / "checkpoints").read_text().split("\n\n")
    old.write_text("\n\n".join(history[2:4]) + "\n")
    done = audit("prove", "--since-checkpoint", old, "--output", proof)
    assert done.exit_code == 0, done.output
    done = audit("check-proof", proof, "--since-checkpoint", old)
    assert done.exit_code == 0, done.output
    assert "the log of 20 records begins with the 5 of before" in done.stdout
    assert "--since-checkpoint" in audit("check-proof", proof).stderr
    other = tmp_path / "other"
    other.write_text("\n\n".join(history[4:6]) + "\n")
    assert audit("check-proof", proof, "--since-checkpoint", other).exit_code == 1
    assert audit("prove", 7, "--output", proof).exit_code == 0
    done = audit("check-proof", proof, "--since-checkpoint", old)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no proof that a log grew" in done.stderr
