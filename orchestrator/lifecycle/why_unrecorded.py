"""Why a job does not move on while the daemon can record nothing: a full disk, a journal or audit log that fails. Pure.

What happens to a job is recorded before anything follows from it, so all jobs stand still for this one cause, whatever
else they wait for. It is told of them instead of that; of an ended job, besides how it ended.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.errors import OrchestratorError
from orchestrator.lifecycle.why_words import Why, clause, words
from orchestrator.model.phase import Phase
from orchestrator.model.record import Record

_CANNOT_GO_ON = "The job cannot go on, for nothing can be recorded now"
_RUNS_ON = "The job is running as far as is known, and nothing more of it can be recorded now"


def why_unrecorded(record: Record, answer: Why, problem: OrchestratorError) -> Why:
    """`answer` while `problem` keeps the daemon from recording anything. What is over stays as it is."""
    if record.phase is Phase.FINISHED:
        return answer
    cause, fix = clause(str(problem)), words(problem.fix) or "see the daemon's log"
    if record.outcome is not None:
        sentence = f"{answer.sentence[:-1]}; nothing more of it can be recorded now{cause}."
        return replace(answer, sentence=sentence, next_step=f"{answer.next_step[:-1]}; operators: {fix}.")
    if record.cancel is not None:
        sentence = f"{answer.sentence[:-1]}; its end cannot be recorded now{cause}."
    else:
        sentence = f"{_RUNS_ON if record.phase is Phase.RUNNING else _CANNOT_GO_ON}{cause}."
    return Why(sentence, f"Operators: {fix}.", problem.reason, since_ns=0)
