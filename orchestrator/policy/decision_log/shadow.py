"""A candidate bundle beside the one in force: asked the same questions by the log's own thread, and never obeyed.

The interpreter holds Python's lock while it evaluates, so a candidate that takes long would hold up jobs after all: one
that does is not asked any more.
"""

from __future__ import annotations

import threading
import time
from collections import Counter

import structlog

from orchestrator.policy.decision_log.compare import SAME, Change, difference
from orchestrator.policy.document import Evaluation
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import Bundle

MAX_SECONDS = 0.1
"""A candidate whose answer takes longer, so many times in all, is put aside."""
MAX_SLOW = 3
OUTCOMES = (SAME, *(change.value for change in Change))

_log = structlog.get_logger(__name__)


class Candidate:
    """What is asked beside policy; nothing until `load`. `load` is for the event loop, `ask` for one other thread."""

    def __init__(self) -> None:
        self._engine: RegorusEngine | None = None
        self._slow = 0
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the candidate that is asked; empty while there is none."""
        engine = self._engine
        return engine.bundle_digest if engine else ""

    def count(self, outcome: str) -> float:
        """How many answers were so, of `OUTCOMES`, since this candidate was loaded."""
        return self._counts[outcome]

    def load(self, bundle: Bundle | None) -> None:
        """Ask this bundle from now on, or none; counts begin anew."""
        engine = None if bundle is None else RegorusEngine(bundle.modules, bundle.data_json, bundle.digest)
        with self._lock:
            self._engine, self._slow, self._counts = engine, 0, Counter()

    def ask(self, live: Evaluation, input_json: bytes) -> Evaluation | None:
        """What the candidate answers, counted against what policy answered; None where there is nothing to ask."""
        engine = self._engine
        if engine is None or not input_json:
            return None
        began = time.perf_counter()
        answer = engine.evaluate_now(input_json.decode())
        took = time.perf_counter() - began
        found = difference(live, answer)
        with self._lock:
            if engine is self._engine:
                self._counts[found.change.value if found else SAME] += 1
                self._watch(took)
        return answer

    def _watch(self, seconds: float) -> None:
        self._slow += seconds > MAX_SECONDS
        if self._slow >= MAX_SLOW and self._engine is not None:
            _log.error("policy_candidate_put_aside", bundle=self.digest, seconds=round(seconds, 3), limit=MAX_SECONDS)
            self._engine = None
