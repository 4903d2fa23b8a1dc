"""How many spans a job sent, noted now and then. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.events import SpansRelayed


@dataclass(slots=True)
class SpanCount:
    """Counts since the last note. A job's flood of spans must not become a flood of facts; times are seconds."""

    accepted: int = 0
    refused: int = 0
    noted_at: float = float("-inf")

    @property
    def pending(self) -> bool:
        return bool(self.accepted or self.refused)

    def add(self, relayed: SpansRelayed) -> None:
        self.accepted += relayed.accepted
        self.refused += relayed.refused

    def due(self, now: float, every_seconds: float) -> bool:
        """Whether to note now; asking is answering for the next `every_seconds`."""
        if not self.pending or now - self.noted_at < every_seconds:
            return False
        self.noted_at = now
        return True

    def take(self) -> SpansRelayed:
        relayed = SpansRelayed(self.accepted, self.refused)
        self.accepted = self.refused = 0
        return relayed
