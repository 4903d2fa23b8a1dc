"""What whoever decides tells the decision log: the answer, and exactly what it was given on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.model.decision import Decision
from orchestrator.policy.document import Evaluation


@dataclass(frozen=True, slots=True)
class Taken:
    """A decision that was taken.

    `input_json` is the very text that was judged, of which `decision.input_digest` is the digest; empty when it never
    came to be, and then policy was not asked. `evaluation` is the engine's own answer, before the pool's limits.
    `job_id` is empty where the question concerned no job. `at_ns` is the decision's time, Unix nanoseconds.
    """

    decision: Decision
    evaluation: Evaluation
    input_json: str
    job_id: str
    at_ns: int


Listener = Callable[[Taken], None]
"""Hears of each decision once, on the event loop, before the decision is given out; is quick and never raises."""


def nobody(_taken: Taken) -> None:
    """The listener of those who keep no log."""
