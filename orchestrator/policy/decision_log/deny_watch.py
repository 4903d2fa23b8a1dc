"""Notices that a new bundle denies far more than the one before it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.decision import Stage, Verdict
from orchestrator.policy.decide import Answered

_REMEMBERED = 1000
"""Questions that make up *before* and *after*, the newest ones."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A jump: the share of denied questions is higher by `share` than before, of at least `least` each, within
    `window_ns` after the change. A share of 0 never notices anything."""

    share: float
    least: int
    window_ns: int


@dataclass(frozen=True, slots=True)
class Jump:
    """Shares of denied questions, and of how many, under the bundle before and the one in force."""

    before: float
    before_count: int
    after: float
    after_count: int


class _Shares:
    """The newest questions and whether each was denied. One that is asked again, by a job that tries once more, counts
    once: else one job could make any rate."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, Stage], bool] = {}
        self._denied = 0

    def add(self, question: tuple[str, Stage], denied: bool) -> None:
        self._denied += denied - self._answers.get(question, False)
        self._answers[question] = denied
        if len(self._answers) > _REMEMBERED:
            self._denied -= self._answers.pop(next(iter(self._answers)))

    @property
    def count(self) -> int:
        return len(self._answers)

    @property
    def share(self) -> float:
        return self._denied / len(self._answers) if self._answers else 0.0


class DenyWatch:
    """Hears of every decision and every change of the bundle."""

    def __init__(self, sensitivity: Sensitivity) -> None:
        self._sensitivity = sensitivity
        self._before = _Shares()
        self._after = _Shares()
        self._changed_ns = 0

    def changed(self, now_ns: int) -> None:
        """Another bundle is in force from now on; it is compared with what was in force before."""
        # A second change in a row: what little was decided in between is no measure.
        if self._after.count >= self._sensitivity.least:
            self._before = self._after
        self._after = _Shares()
        self._changed_ns = now_ns

    def decided(self, answered: Answered) -> Jump | None:
        """The jump that this decision completes; told once for each change of the bundle."""
        decision = answered.decision
        if decision.stage not in (Stage.ADMISSION, Stage.EXCHANGE):
            return None  # anybody may ask whether something would be allowed, as often as they like
        self._after.add((answered.record.id, decision.stage), decision.verdict is not Verdict.ALLOW)
        if not self._changed_ns:
            return None
        if answered.time_ns - self._changed_ns > self._sensitivity.window_ns:
            self._changed_ns = 0
            return None
        return self._jump()

    def _jump(self) -> Jump | None:
        before, after, wanted = self._before, self._after, self._sensitivity
        if not wanted.share or min(before.count, after.count) < wanted.least:
            return None
        if after.share - before.share < wanted.share:
            return None
        self._changed_ns = 0
        return Jump(before.share, before.count, after.share, after.count)
