"""The spans of a job's token exchanges: from policy's answer to the token, or to its refusal. Pure."""

from __future__ import annotations

from orchestrator.model.events import TokenIssued
from orchestrator.telemetry.open_span import OpenSpan
from orchestrator.telemetry.semconv import OWN


class Exchanges:
    """Those that are not answered yet, the oldest of an audience first."""

    def __init__(self) -> None:
        self._open: list[tuple[str, OpenSpan]] = []

    def add(self, audience: str, span: OpenSpan) -> None:
        self._open.append((audience, span))

    def of(self, audience: str) -> OpenSpan | None:
        return next((span for wanted, span in self._open if wanted == audience), None)

    def answer(self, event: object, audience: str, at_ns: int) -> None:
        """A token of this audience was issued or refused."""
        span = self.of(audience)
        if span is not None:
            self._open.remove((audience, span))
            span.attributes[f"{OWN}token.outcome"] = "issued" if isinstance(event, TokenIssued) else "refused"
            span.close(at_ns)

    def cut(self, at_ns: int) -> None:
        """The job has ended: nobody is answered any more."""
        for _, span in self._open:
            span.attributes[f"{OWN}token.outcome"] = "unanswered"
            span.close(at_ns)
        self._open.clear()
