"""A runner's hook says which job its platform gave it; the answer says whether the job may go on, and as what.

What the hook says is the word of a program beside the job's: it only points to facts that the port behind this, the
`Namer`, verifies by the platform's signature or by asking the platform itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.record import Record
from orchestrator.server import schemas
from orchestrator.server.deps import HookReport, JobEngine, Namer
from orchestrator.server.entrance.problems import REASONS, ProblemError

JOB_PATH = "/runner/v1/job"

HOLD_SECONDS = 25.0
"""How long a report is held that nobody can verify yet: less than a hook waits for its answer."""
MAX_REFUSALS = 16
"""Reports of one runner that are refused by looking into them; then it is refused without."""

_FINAL = ("policy_denied", "policy_undefined", "policy_error")


def told(report: schemas.JobReport) -> HookReport:
    return HookReport(report.run_id, report.run_attempt, report.repository, report.token)


class NamingDeps(Protocol):
    """What is needed to answer; `runner_handlers.RunnerDeps` has it."""

    @property
    def engine(self) -> JobEngine: ...

    @property
    def namer(self) -> Namer | None: ...

    @property
    def traceparent_of(self) -> Callable[[Record], str]: ...


async def named(deps: NamingDeps, identity: RunnerIdentity, report: HookReport) -> dict[str, str] | None:
    """The answer for a job that may go on; None when nobody can say yet which job it is.

    Raises:
        ProblemError: with policy's reasons, one by one, or another reason why the job has no place here.
        TryAgainError: whether it may is not known now.
    """
    engine, namer = deps.engine, deps.namer
    record = engine.bound_record(identity)
    if record is None:
        raise GiveUpError("The runner has no running job.", reason="job_not_running")
    if namer is None or record.platform is None:
        raise GiveUpError("This runner's job was known from the start.", reason="not_awaiting")
    hold = asyncio.timeout(HOLD_SECONDS)
    try:
        async with hold:
            found = await namer(identity, report)
    except TimeoutError:
        if not hold.expired():
            raise
        return None
    except GiveUpError as error:
        raise _refusal(engine.record_of_runner(identity.name), error) from error
    if found is None:
        return None
    # Whatever its namer says, a job without an identity does not go on as if it had one.
    if not found.live or found.bound_uid != identity.uid:
        raise GiveUpError("The job has ended.", reason="job_ended")
    return {"job_id": found.id, "name": found.offer.spec.name, "traceparent": deps.traceparent_of(found)}


def _refusal(record: Record | None, error: OrchestratorError) -> ProblemError:
    reason = error.reason if error.reason in REASONS else "naming_refused"
    decision = record.refused if record is not None else None
    reasons = decision.reasons if decision is not None and reason in _FINAL else ()
    return ProblemError(str(error), reason=reason, fix=error.fix, reasons=reasons)
