"""Facts to counts: who used what, what policy answered, what was built and deployed. Pure; for `journal.subscribe`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.model import events
from orchestrator.model.decision import CONFIGURATION, Decision, Verdict
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.model.outcome import Result
from orchestrator.telemetry.scores.tally import DayTally

NO_RULE: Final = frozenset({"no_rule", "policy_undefined", "policy_error"})
"""Codes of reasons by which nothing was decided: no rule was about the question."""

SECRET, GRANT, KEY, AUDIENCE = "use secret ", "use grant ", "use key ", "use audience "
DECISIONS, EXPLICIT, OBSERVED, WAIVED = "decisions", "decisions explicit", "observed ", "waived "
JOBS, SECRETLESS, PROVEN, BUILDING = "jobs ", "without secrets", "proven ", "building "


@dataclass(slots=True)
class _Job:
    pool: str
    environment: str = ""
    digest: str = ""
    built: list[str] = field(default_factory=list)
    proven: bool = False
    secrets: bool = False
    success: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """Artifacts of a job that has succeeded: what it built, or what it deployed to an environment."""

    at_ns: int
    digests: tuple[str, ...]
    deployed: bool


class Follower:
    """Counts into the tally. What needs to be looked up about artifacts is left in `made`, for whoever can."""

    def __init__(self, tally: DayTally) -> None:
        self._tally = tally
        self._jobs: dict[JobId, _Job] = {}
        self.made: list[Made] = []

    def adopt(self, jobs: Iterable[Sequence[Fact]]) -> None:
        """Learn of unfinished jobs, without counting again what an earlier daemon has."""
        for facts in jobs:
            for fact in facts:
                self._learn(fact)

    def observe(self, facts: Sequence[Fact]) -> None:
        """Quick, and raises nothing."""
        for fact in facts:
            job = self._learn(fact)
            self._count(fact, job)

    def _learn(self, fact: Fact) -> _Job | None:
        if isinstance(fact.event, events.JobOffered):
            spec = fact.event.offer.spec
            job = _Job(spec.pool, spec.deployment_environment, spec.artifact_digest)
            self._jobs[fact.job_id] = job
            return job
        found = self._jobs.get(fact.job_id)
        if found is None:
            return None
        match fact.event:
            case events.PlatformJobNamed(job=named):
                found.environment = named.deployment_environment
            case events.ArtifactNamed(digest):
                found.digest = found.digest or digest
            case events.ArtifactReported(digest=digest):
                found.built.append(digest)
            case events.ProvenanceSigned():
                found.proven = True
            case events.SecretDelivered():
                found.secrets = True
            case events.JobEnded(outcome):
                found.success = outcome.result is Result.SUCCESS
            case events.JobFinished():
                del self._jobs[fact.job_id]
            case _:
                pass
        return found

    def _count(self, fact: Fact, job: _Job | None) -> None:
        add, at_ns = self._tally.add, fact.at_ns
        match fact.event:
            case events.SecretDelivered(name=name):
                add(SECRET + name, at_ns)
            case events.TokenIssued() as issued:
                add(KEY + issued.key_id, at_ns)
                add(AUDIENCE + issued.audience, at_ns)
                if issued.rule:
                    add(f"{GRANT}{issued.rule} {issued.role}", at_ns)
            case events.JobAdmitted(decision) | events.JobRefused(decision) | events.ExchangeDecided(decision=decision):
                self._decided(decision, at_ns)
            case events.PlatformJobNamed(decision=decision) if decision.allowed:  # else a JobRefused follows
                self._decided(decision, at_ns)
            case events.JobFinished() if job is not None:
                self._finished(job, at_ns)
            case _:
                pass

    def _decided(self, decision: Decision, at_ns: int) -> None:
        if decision.engine == CONFIGURATION:
            return  # nobody was asked
        self._tally.add(DECISIONS, at_ns)
        if explicit(decision):
            self._tally.add(EXPLICIT, at_ns)
        for reason in decision.observed:
            self._tally.add(OBSERVED + reason.code, at_ns)
        for code in {code for waiver in decision.waivers for code in waiver.codes}:
            self._tally.add(WAIVED + code, at_ns)

    def _finished(self, job: _Job, at_ns: int) -> None:
        self._tally.add(JOBS + job.pool, at_ns)
        if not job.secrets:
            self._tally.add(SECRETLESS, at_ns)
        if not job.success:
            return
        if job.built:
            self._tally.add(BUILDING + job.pool, at_ns)
            if job.proven:
                self._tally.add(PROVEN + job.pool, at_ns)
            self.made.append(Made(at_ns, tuple(dict.fromkeys(job.built)), deployed=False))
        if job.environment and job.digest:
            self.made.append(Made(at_ns, (job.digest,), deployed=True))


def explicit(decision: Decision) -> bool:
    """Whether some rule was about the question: an allow, or a denial for a reason of its own."""
    if decision.verdict is Verdict.ALLOW:
        return True
    return decision.verdict is Verdict.DENY and any(reason.code not in NO_RULE for reason in decision.reasons)
