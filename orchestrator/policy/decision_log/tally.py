"""What a replay found, in numbers and examples. Parts of a log are counted apart, and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.policy.decision_log.compare import Change, Difference
from orchestrator.policy.decision_log.entry import Entry, Subject, subject_of
from orchestrator.policy.decision_log.reading import Finding, Span, missing_between

MAX_VALUES = 2000
"""Different values of one dimension that are told apart; the rest counts as `(others)`."""
MAX_JOBS = 200_000
"""Different jobs that are counted."""
MAX_EXAMPLES = 5
MAX_SHOWN = 50
"""Changed decisions that are shown whole, of each kind of change."""
DIMENSIONS = ("rule", "repository", "environment", "pool", "caller")
_OTHERS = "(others)"
_MAX_FINDINGS = 1000


@dataclass(slots=True)
class Group:
    """Changed decisions that have something in common. `jobs` are examples."""

    counts: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)

    def add(self, counts: Mapping[str, int], jobs: Iterable[str]) -> None:
        self.counts.update(counts)
        for job in jobs:
            if job and job not in self.jobs and len(self.jobs) < MAX_EXAMPLES:
                self.jobs.append(job)


@dataclass(frozen=True, slots=True)
class Changed:
    """One decision that would be another."""

    change: Change
    decision_id: str
    timestamp: str
    stage: str
    job_id: str
    environment: str
    appeared: tuple[str, ...]
    vanished: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """`replayed` decisions were decided again; `without_input` could not be, for policy was not asked then."""

    replayed: int = 0
    without_input: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    groups: dict[str, dict[str, Group]] = field(default_factory=lambda: {name: {} for name in DIMENSIONS})
    jobs: set[str] = field(default_factory=set)
    shown: list[Changed] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)

    @property
    def changed(self) -> int:
        """Decisions that would be others, in whatever way."""
        return self.changes.total()

    def same(self, entry: Entry) -> None:
        """It would be decided alike."""
        self.replayed += 1
        self.versions[entry.labels.get("version", "")] += 1

    def differs(self, entry: Entry, found: Difference) -> None:
        """It would be decided otherwise."""
        self.same(entry)
        subject, job, kind = subject_of(entry), entry.custom.job_id, found.change.value
        self.changes[kind] += 1
        if job and len(self.jobs) < MAX_JOBS:
            self.jobs.add(job)
        for dimension, values in _values(subject, found).items():
            for value in values:
                self._group(dimension, value).add({kind: 1}, (job,))
        if self.changes[kind] <= MAX_SHOWN:
            changed = Changed(
                found.change, entry.decision_id, entry.timestamp, entry.custom.stage, job,
                subject.environment, tuple(sorted(found.appeared)), tuple(sorted(found.vanished)),
            )  # fmt: skip
            self.shown.append(changed)

    def merge(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.replayed += other.replayed
        self.without_input += other.without_input
        for kind in Change:
            room = MAX_SHOWN - min(self.changes[kind.value], MAX_SHOWN)
            self.shown += [one for one in other.shown if one.change is kind][:room]
        self.changes.update(other.changes)
        self.versions.update(other.versions)
        for dimension, groups in other.groups.items():
            for value, group in groups.items():
                self._group(dimension, value).add(group.counts, group.jobs)
        self.jobs |= set(sorted(other.jobs)[: MAX_JOBS - len(self.jobs)])
        self.findings += other.findings[: _MAX_FINDINGS - len(self.findings)]
        self.spans += other.spans

    def problems(self) -> Sequence[Finding]:
        """Everything that is wrong with what was read of the log."""
        return [*self.findings, *missing_between(self.spans)]

    def as_json(self) -> dict[str, Any]:
        """The numbers as plain JSON values; groups with most changes first."""
        return {
            "decisions": {
                "replayed": self.replayed,
                "unchanged": self.replayed - self.changed,
                "changed": self.changed,
                "without_input": self.without_input,
            },
            "changes": {kind.value: self.changes[kind.value] for kind in Change},
            "jobs_changed": len(self.jobs),
            "by": {name: _groups(groups) for name, groups in self.groups.items()},
            "changed": [
                {
                    "change": one.change.value,
                    "decision_id": one.decision_id,
                    "timestamp": one.timestamp,
                    "stage": one.stage,
                    "job_id": one.job_id,
                    "environment": one.environment,
                    "appeared": list(one.appeared),
                    "vanished": list(one.vanished),
                }
                for one in sorted(self.shown, key=lambda one: (list(Change).index(one.change), one.timestamp))
            ],
            "recorded_by_versions": dict(sorted(self.versions.items())),
            "problems": [{"where": one.where, "what": one.what} for one in self.problems()],
        }

    def _group(self, dimension: str, value: str) -> Group:
        groups = self.groups[dimension]
        if value not in groups and len(groups) >= MAX_VALUES:
            value = _OTHERS
        return groups.setdefault(value, Group())


def _values(subject: Subject, found: Difference) -> Mapping[str, Sequence[str]]:
    return {
        "rule": sorted(found.appeared | found.vanished),
        "repository": (subject.repository,),
        "environment": (subject.environment,),
        "pool": (subject.pool_name,),
        "caller": (subject.caller_subject,),
    }


def _groups(groups: Mapping[str, Group]) -> list[dict[str, Any]]:
    ordered = sorted(groups.items(), key=lambda item: (-item[1].counts.total(), item[0]))
    return [
        {"value": value, "changed": group.counts.total(), **dict(sorted(group.counts.items())), "jobs": group.jobs}
        for value, group in ordered
    ]
