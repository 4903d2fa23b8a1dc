"""The one way a job ends: a recorded outcome, from which moment its credentials are refused. Pure."""

from __future__ import annotations

from orchestrator.lifecycle.observation import Step
from orchestrator.model.events import JobEnded
from orchestrator.model.outcome import EndReason, Outcome, Result


def ended(result: Result, reason: EndReason, message: str, exit_code: int | None = None) -> Step:
    """A step that ends the job with this outcome."""
    return Step(facts=(JobEnded(Outcome(result, reason, message, exit_code)),))
