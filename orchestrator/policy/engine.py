"""The port behind which Rego is evaluated, and its embedded implementation.

Four outcomes and no exceptions: engines differ in how they say that there is no answer, and some of the ways
fail open when handled naively. An implementation turns all of them into *undefined* or *error* here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from orchestrator.model.decision import Verdict
from orchestrator.policy.document import Evaluation, read_answer
from orchestrator.policy.rego import ENGINE_NAME, Module, RegoFailureError, RegoProgram

ENTRYPOINT = "data.orchestrator.decision"
"""The one rule that is ever asked; its value is a decision document."""

MAX_INPUT_BYTES = 256 * 1024
"""Largest input: evaluation is not interruptible, so its cost is bounded by what goes in."""


class RegoEngine(Protocol):
    """Evaluates the entrypoint over one input document."""

    async def evaluate(self, input_json: str) -> Evaluation:
        """The answer to `input_json` (JSON text, an object). Never raises; a failure is verdict *error*."""
        ...

    async def aclose(self) -> None: ...


def too_large(input_json: str, limit: int) -> bool:
    """Whether the text is more than `limit` bytes of UTF-8; cheap for the usual, small one."""
    return len(input_json) > limit or (len(input_json) * 4 > limit and len(input_json.encode()) > limit)


class RegorusEngine:
    """Regorus in this process, called directly on the loop: a decision takes tens of microseconds.

    The interpreter's object belongs to the thread that made it, so each thread that asks gets its own,
    made on first use and thrown away after a failure of the interpreter itself.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        data_json: str,
        bundle_digest: str,
        *,
        entrypoint: str = ENTRYPOINT,
        max_input_bytes: int = MAX_INPUT_BYTES,
    ) -> None:
        self._modules = tuple(modules)
        self._data_json = data_json
        self._entrypoint = entrypoint
        self._max_input_bytes = max_input_bytes
        self._local = threading.local()
        self.bundle_digest = bundle_digest

    async def evaluate(self, input_json: str) -> Evaluation:
        return self.evaluate_now(input_json)

    def evaluate_now(self, input_json: str) -> Evaluation:
        """Like `evaluate`, for callers without an event loop (load checks, replay, tests)."""
        if too_large(input_json, self._max_input_bytes):
            return self._error(f"the policy input is larger than {self._max_input_bytes} bytes")
        try:
            answer = self._program().rule(self._entrypoint, input_json)
        except RegoFailureError as failure:
            # What a panic leaves behind is unknown; the next question starts from a fresh object.
            self._local.program = None
            return self._error(f"policy evaluation failed: {failure}")
        return read_answer(answer, engine=ENGINE_NAME, bundle_digest=self.bundle_digest)

    async def aclose(self) -> None:
        self._local.program = None

    def _program(self) -> RegoProgram:
        program: RegoProgram | None = getattr(self._local, "program", None)
        if program is None:
            program = RegoProgram(self._modules, self._data_json)
            self._local.program = program
        return program

    def _error(self, detail: str) -> Evaluation:
        return Evaluation(Verdict.ERROR, detail=detail, engine=ENGINE_NAME, bundle_digest=self.bundle_digest)
