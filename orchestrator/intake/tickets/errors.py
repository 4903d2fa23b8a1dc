"""What can go wrong between us and the tracker, by family and reason."""

from __future__ import annotations

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError


class TrackerError(OrchestratorError):
    """Base of what the client raises; every one is also of one of the two families."""


class TrackerUnavailableError(TrackerError, TryAgainError):
    """No answer in time, a server's failure, or a limit."""

    reason = "tracker_unavailable"
    fix = "see whether the tracker and the way to it (proxy, firewall, certificates) work"


class AnswerUnreadableError(TrackerError, TryAgainError):
    """An answer of success that does not say what it must."""

    reason = "tracker_answer_unreadable"
    fix = "compare promotion.tickets.fields with what the tracker answers at promotion.tickets.url"


class TrackerRefusedError(TrackerError, GiveUpError):
    """The tracker does not let us see tickets, or is elsewhere."""

    reason = "tracker_refused"
    fix = "check promotion.tickets: url, token_file and scheme; redirects are not followed"
