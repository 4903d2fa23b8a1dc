"""What a job is waiting for, or why it ended: one sentence, the next step, and the figures behind them. Pure.

The record alone gives an answer that is true; `Surroundings` make it precise: who holds the pool, how many are before
the job in the line, what the last try ran into. The sentence has no figure that only ages: it may be kept until the
job or what surrounds it changes. `Why.told` adds how long it has been so, and when it is given up.
"""

from __future__ import annotations

from orchestrator.lifecycle.why_ended import why_ended
from orchestrator.lifecycle.why_pending import why_pending
from orchestrator.lifecycle.why_unrecorded import why_unrecorded
from orchestrator.lifecycle.why_words import Around, Progress, Surroundings, Why, figure
from orchestrator.model.record import Record

__all__ = ["Around", "Surroundings", "Why", "figure", "told", "why"]

_UNKNOWN = Surroundings()


def why(record: Record, around: Surroundings = _UNKNOWN) -> Why:
    """Why the job stands where it stands. Cheap enough for each row of a list, without `around` too."""
    answer = why_pending(record, around) if record.outcome is None else why_ended(record, around)
    return answer if around.unrecorded is None else why_unrecorded(record, answer, around.unrecorded)


def told(answer: Why, now_ns: int) -> str:
    """The sentence with how long it has been so, and when it is given up: `… (for 3 min; given up in 2 h 57 min).`"""
    figures = []
    if answer.pending and answer.since_ns and now_ns > answer.since_ns:
        figures.append(f"for {figure(now_ns - answer.since_ns)}")
    if answer.pending and answer.gives_up_at_ns > now_ns:
        left = figure(answer.gives_up_at_ns - now_ns)
        running = answer.reason == Progress.RUNNING
        figures.append(f"ended in {left} at the latest" if running else f"given up in {left} at the earliest")
    return f"{answer.sentence[:-1]} ({'; '.join(figures)})." if figures else answer.sentence
