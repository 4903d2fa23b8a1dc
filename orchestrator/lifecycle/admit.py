"""Stage 1: from an offer to *admitted* or an ended job. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.ending import ended
from orchestrator.lifecycle.excepted import exception_facts
from orchestrator.lifecycle.observation import Action, Deadlines, Observation, Step
from orchestrator.model.decision import CONFIGURATION, Decision, Obligations, Reason, Stage, Verdict
from orchestrator.model.egress import narrow
from orchestrator.model.events import Event, JobAdmitted, JobRefused
from orchestrator.model.outcome import EndReason, Result
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record

_REFUSALS = {
    Verdict.DENY: (Result.DENIED, EndReason.POLICY_DENIED),
    Verdict.UNDEFINED: (Result.DENIED, EndReason.POLICY_UNDEFINED),
    Verdict.ERROR: (Result.ERROR, EndReason.POLICY_ERROR),
}


def admit(record: Record, seen: Observation, deadlines: Deadlines) -> Step:
    """A queued job: ask policy once; only *allow* goes on. A job still unnamed is judged when its platform names it."""
    deadline = record.phase_since_ns + deadlines.admission_ns
    if seen.pool is None:
        return ended(Result.ERROR, EndReason.UNKNOWN_POOL, f"no pool is called {record.offer.spec.pool!r}")
    if record.platform is not None:
        return Step(facts=(JobAdmitted(_demanded(record, seen.pool)),))
    if seen.decision is not None:
        return Step(facts=_answer(seen.decision))
    if seen.now_ns >= deadline:
        return ended(Result.TIMEOUT, EndReason.ADMISSION_TIMEOUT, "policy gave no answer in time")
    return Step(action=Action.ASK_POLICY, wake_ns=deadline)


def admit_again(record: Record, seen: Observation) -> Step | None:
    """A job that waits was allowed more than its pool allows by now: it is judged again, before it begins.

    None when it was not, which is nearly always.
    """
    assert seen.pool is not None
    if _within(record.obligations, seen.pool):
        return None
    if record.platform is not None:
        return Step(facts=(JobAdmitted(_demanded(record, seen.pool)),))
    if seen.decision is None:
        return Step(action=Action.ASK_POLICY)
    if seen.decision.allowed and not _within(seen.decision.obligations, seen.pool):
        return ended(Result.ERROR, EndReason.POLICY_ERROR, "policy allowed more egress than the job's pool does")
    return Step(facts=_answer(seen.decision))


def _within(allowed: Obligations, pool: Pool) -> bool:
    """Whether the pool allows every destination that was allowed."""
    wanted = allowed.egress
    return wanted == pool.egress or set(narrow(pool.egress, wanted)) == set(wanted)


def _answer(decision: Decision) -> tuple[Event, ...]:
    if decision.allowed:
        return (JobAdmitted(decision), *exception_facts(decision))
    return (JobRefused(decision), *refusal(decision).facts)


def refusal(decision: Decision) -> Step:
    """The end of a job that policy did not allow."""
    result, reason = _REFUSALS[decision.verdict]
    return ended(result, reason, decision.explain())


def refusal_reason(decision: Decision) -> EndReason:
    """The reason word for policy's *no*."""
    return _REFUSALS[decision.verdict][1]


def _demanded(record: Record, pool: Pool) -> Decision:
    """What stands in for policy's answer when a platform asks for a runner: there is no job yet to judge, and the set
    was made by whoever configured us. It grants the platform's own hosts, as far as the pool does."""
    return Decision(
        f"demand-{record.id}",
        Stage.ADMISSION,
        Verdict.ALLOW,
        (Reason("platform_demand", "a runner for a job that the platform has yet to name; policy judges that job"),),
        Obligations(egress=narrow(pool.egress, record.offer.spec.platform_egress)),
        engine=CONFIGURATION,
    )
