"""The page on audit records: every kind that the program can write, and what each says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from orchestrator.evidence.audit.facts import JobFacts
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.model import events

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/reference/audit-records.md").read_text("utf-8")
LISTED = {
    kind for line in PAGE.splitlines() if line.startswith("| `") for kind in re.findall(r"`([a-z]+\.[a-z_]+)`", line)
}


def of_jobs() -> JobFacts:
    return JobFacts(KeyedHash(bytes(32)), lambda job_id: "")


def test_every_kind_is_there_and_no_other():
    told = {kind for kind, _ in of_jobs()._rows.values()}
    daemon = ROOT / "orchestrator/daemon"
    files = [*(daemon / "records").glob("audit*.py"), daemon / "secrets" / "room.py"]
    rooms = "".join(path.read_text("utf-8") for path in files)
    noted = set(
        re.findall(
            r'"((?:log|daemon|journal|settings|policy|trust|keys|deployment|signers|evidence|secret|approvers|approval|page)\.[a-z_]+)"',
            rooms,
        )
    )
    assert {"log.begun", "policy.loaded", "keys.rotated"} <= noted
    refused = {f"{what}.refused" for what in ("settings", "policy", "trust", "signers", "approvers")}
    assert told | noted | refused == LISTED


def test_facts_that_are_not_told_are_chosen():
    """A new event is either told, or somebody has said here that it need not be."""
    chosen = {
        events.JobOffered, events.JobWaited, events.ProvisionStarted, events.RunnerCreated, events.RunnerVanished,
        events.PlatformJobCompleted, events.RunnerExited, events.RunnerDeleted, events.RunnerObserved,
        events.EgressDecided, events.ArtifactReported, events.ArtifactAttested, events.LogClosed, events.SpansRelayed,
        events.DaemonRestarted, events.JobCompacted,
    }  # fmt: skip
    assert set(get_args(events.Event)) - of_jobs()._rows.keys() == chosen
