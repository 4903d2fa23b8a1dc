"""A writer that is killed again and again: nothing confirmed is lost, nothing is told twice, and the log verifies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.evidence.audit.note import open_note_key
from orchestrator.evidence.audit.verify import verify

SCRIPT = Path(__file__).with_name("writer.py")
KILLS = 6


def test_sigkill_again_and_again(tmp_path: Path) -> None:
    last_confirmed = 0
    for turn in range(KILLS):
        with subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            try:
                taken_up = int(writer.stdout.readline().split()[1])
                assert taken_up >= last_confirmed, "a confirmed record is gone"
                for _ in range(40 + 13 * turn):
                    last_confirmed = int(writer.stdout.readline())
            finally:
                writer.send_signal(signal.SIGKILL)
            last_confirmed = max([last_confirmed, *map(int, writer.stdout.read().split(b"\n")[:-1])])
        report = verify(tmp_path / "audit", open_note_key(tmp_path / "audit.key", "").verifier)
        assert report.ok, report
        assert report.records >= last_confirmed
    paths = sorted((tmp_path / "audit").glob("*.jsonl"))
    told = [json.loads(line)["journal_seq"] for path in paths for line in path.read_bytes().splitlines()]
    assert told == list(range(1, len(told) + 1))
    assert len(told) >= KILLS * 40
    assert len(paths) > 2
