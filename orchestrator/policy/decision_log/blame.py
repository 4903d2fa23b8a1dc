"""Who and what a bundle stands for: when it was in force, what it changed, and which jobs were decided under it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.policy.decision_log.entry import Entry, subject_of
from orchestrator.policy.decision_log.reading import Finding, SegmentReader, Window, chosen

MAX_JOBS = 10_000
"""Jobs that are told; the number of all is told besides."""


@dataclass(slots=True)
class JobUse:
    """One job's decisions. `environment` and `artifact_digest` are what it asked for, `released` whether it was allowed
    to go on into that environment."""

    first: str
    environment: str = ""
    artifact_digest: str = ""
    verdicts: Counter[str] = field(default_factory=Counter)
    released: bool = False


@dataclass(slots=True)
class Uses:
    """What was decided under one bundle. `first` and `last` are times, empty when nothing was."""

    decisions: Counter[str] = field(default_factory=Counter)
    environments: dict[str, Counter[str]] = field(default_factory=dict)
    jobs: dict[str, JobUse] = field(default_factory=dict)
    more_jobs: int = 0
    first: str = ""
    last: str = ""
    problems: list[Finding] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        subject, verdict = subject_of(entry), entry.custom.verdict.value
        self.decisions[verdict] += 1
        self.environments.setdefault(subject.environment, Counter())[verdict] += 1
        self.first = min(self.first or entry.timestamp, entry.timestamp)
        self.last = max(self.last, entry.timestamp)
        job = self._job(entry)
        if job is not None:
            job.verdicts[verdict] += 1
            job.environment = job.environment or subject.environment
            job.artifact_digest = job.artifact_digest or subject.artifact_digest
            job.released |= verdict == "allow" and bool(subject.environment)

    def _job(self, entry: Entry) -> JobUse | None:
        job_id = entry.custom.job_id
        if not job_id:
            return None
        if job_id not in self.jobs and len(self.jobs) >= MAX_JOBS:
            self.more_jobs += 1
            return None
        return self.jobs.setdefault(job_id, JobUse(entry.timestamp))

    def as_json(self) -> dict[str, Any]:
        """As plain JSON values; releases are the jobs that were allowed into an environment."""
        told = [
            {
                "job_id": job_id,
                "first": job.first,
                "environment": job.environment,
                "artifact_digest": job.artifact_digest,
                "released": job.released,
                "verdicts": dict(sorted(job.verdicts.items())),
            }
            for job_id, job in self.jobs.items()
        ]
        return {
            "first": self.first,
            "last": self.last,
            "decisions": dict(sorted(self.decisions.items())),
            "environments": {name: dict(sorted(found.items())) for name, found in sorted(self.environments.items())},
            "jobs": told,
            "decisions_of_more_jobs": self.more_jobs,
            "problems": [{"where": one.where, "what": one.what} for one in self.problems],
        }


def uses_of(folder: Path, digest: str, window: Window) -> Uses:
    """Every decision of the log under the bundle with this digest.

    Raises:
        OSError: the folder cannot be read.
    """
    uses = Uses()
    for segment in chosen(folder, window):
        reader = SegmentReader(segment)
        for entry in reader.entries():
            if entry.bundle_digest == digest and window.holds(entry):
                uses.add(entry)
        uses.problems += reader.findings
    return uses


def digests_like(beginning: str, known: Iterable[str]) -> Sequence[str]:
    """The digests that begin so, with or without `sha256:`."""
    wanted = beginning.removeprefix("sha256:")
    return sorted({digest for digest in known if digest.removeprefix("sha256:").startswith(wanted)})


def changed_files(before: Mapping[str, object], after: Mapping[str, object]) -> Sequence[str]:
    """Paths of what differs between two bundles, each with a mark: `+` added, `-` removed, `~` changed."""
    marks = [f"+{path}" for path in after.keys() - before.keys()]
    marks += [f"-{path}" for path in before.keys() - after.keys()]
    marks += [f"~{path}" for path in after.keys() & before.keys() if after[path] != before[path]]
    return sorted(marks, key=lambda mark: mark[1:])
